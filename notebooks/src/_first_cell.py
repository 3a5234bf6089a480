# The same in every notebook: sets Colab up; elsewhere it says in one sentence what this kernel lacks, if anything.
import subprocess
import sys
from importlib import invalidate_caches
from importlib.util import find_spec

COURSE = "xlt-tutorial @ git+https://github.com/OWNER/NAME@TAG"


class NotReady(ImportError):
    def _render_traceback_(self):  # Jupyter then shows the sentence alone
        return [str(self)]


on_colab = "google.colab" in sys.modules
if on_colab and find_spec("xlt_tutorial") is None:  # by ranges, so torch, numpy and transformers stay as they are
    print("Installing the course's package takes about a minute.")
    pip = subprocess.run([sys.executable, "-m", "pip", "install", "-q", COURSE], capture_output=True, text=True)
    if pip.returncode:
        raise NotReady(f"pip could not install {COURSE!r}; its last words were: {pip.stderr.strip()[-300:]}")
    invalidate_caches()
if find_spec("xlt_tutorial") is None:
    raise NotReady(
        f"This kernel ({sys.executable}) has no xlt_tutorial: choose the kernel of .venv in the menu Kernel, "
        "or run `make lab` in the course's folder, which sets up what is missing."
    )
from xlt_tutorial.doctor import complaint  # before torch, so that torch's idle threads leave the cores to others

if lacking := complaint():
    raise NotReady(lacking)
if on_colab:
    from google.colab import output

    output.enable_custom_widget_manager()
