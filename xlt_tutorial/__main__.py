"""``python -m xlt_tutorial`` is the command ``xlt``."""

from xlt_tutorial.cli import main

if __name__ == "__main__":
    main()
