"""Put where the course lives into README.md and the notebooks: ``make badges REPO=owner/name [TAG=v1.0.0]``.

The one setting is ``[tool.xlt_tutorial]`` in pyproject.toml: ``repository`` (owner/name on GitHub) and ``tag``. From it
follow the badges of README.md, the links in the head of every notebook, and what the first cell installs on Colab.
``--repo`` and ``--tag`` change the setting; without them it is only applied; ``--check`` tells which files differ.
The notebooks' links are words, not pictures: JupyterLab would ask the network for a picture.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from pages import write_or_check

ROOT = Path(__file__).resolve().parent.parent
TAG = "first-cell"  # of the common first cell, in its metadata
# That cell is for the machine: its code stays folded in JupyterLab and on Colab.
FOLDED = {"jupyter": {"source_hidden": True}, "cellView": "form"}
# Not a name that GitHub gives out, so that nothing can be installed from it.
NOT_SET = "owner.not.set"
BEGIN, END = "<!-- badges: written by tools/badges.py -->\n", "<!-- end of badges -->"
COURSE = re.compile(r"git\+https://github\.com/[^@\s\"']+@[^\s\"']+")
LINKS = re.compile(r"(?m)^Open this notebook: .*\n\n")
PICTURES = {
    "Open in Colab": "https://colab.research.google.com/assets/colab-badge.svg",
    "Open in Binder": "https://mybinder.org/badge_logo.svg",
}


@dataclass(frozen=True)
class Home:
    """Where the course lives: ``repository`` is owner/name on GitHub, ``tag`` what readers get of it."""

    repository: str
    tag: str

    @classmethod
    def read(cls, root: Path = ROOT) -> Home:
        """Return the setting of pyproject.toml."""
        return cls(**tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["xlt_tutorial"])

    def links(self, stem: str) -> dict[str, str]:
        """Return the addresses at which Colab and Binder open a notebook."""
        path = f"notebooks/{stem}.ipynb"
        return {
            "Open in Colab": f"https://colab.research.google.com/github/{self.repository}/blob/{self.tag}/{path}",
            "Open in Binder": f"https://mybinder.org/v2/gh/{self.repository}/{self.tag}?urlpath=lab/tree/{path}",
        }

    def place(self, notebook: NotebookNode, stem: str) -> None:
        """Write the links under the title and the repository into the first cell, which is folded."""
        words = " or ".join(f"[in {name.split()[-1]}]({link})" for name, link in self.links(stem).items())
        head = notebook.cells[0]
        if head.cell_type == "markdown" and head.source.startswith("# "):
            title, _, rest = LINKS.sub("", head.source).partition("\n")
            head.source = f"{title}\n\nOpen this notebook: {words}.\n{rest}"
        for cell in notebook.cells:
            if TAG in cell.metadata.get("tags", []):
                cell.source = COURSE.sub(f"git+https://github.com/{self.repository}@{self.tag}", cell.source)
                cell.metadata.update(nbformat.from_dict(FOLDED))

    def readme(self, text: str) -> str:
        """Return README.md with the badges between its marks renewed."""
        before, rest = text.split(BEGIN, 1)
        links = self.links("00_start_here").items()
        badges = "\n".join(f"[![{name}]({PICTURES[name]})]({link})" for name, link in links)
        return f"{before}{BEGIN}\n{badges}\n\n{END}{rest.split(END, 1)[1]}"


def renewed(root: Path = ROOT) -> dict[Path, str]:
    """Return each file that holds the setting, and what it should read."""
    home = Home.read(root)
    texts = {root / "README.md": home.readme((root / "README.md").read_text(encoding="utf-8"))}
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        home.place(notebook, path.stem)
        texts[path] = nbformat.writes(notebook) + "\n"
    return texts


def change(root: Path = ROOT, **setting: str) -> None:
    """Change the setting in pyproject.toml; ``setting`` has ``repository`` or ``tag`` or both."""
    path = root / "pyproject.toml"
    before, mark, rest = path.read_text(encoding="utf-8").partition("[tool.xlt_tutorial]\n")
    for key, value in setting.items():
        rest = re.sub(rf'(?m)^{key} = ".*"$', f'{key} = "{value}"', rest, count=1)
    path.write_text(before + mark + rest, encoding="utf-8")


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Change the setting where asked to, and apply or compare it; 1 where a file differs."""
    parser = argparse.ArgumentParser(description="Put where the course lives into README.md and the notebooks.")
    parser.add_argument("--repo", default="", help="owner/name on GitHub")
    parser.add_argument("--tag", default="", help="a tag, such as v0.1.0")
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args(arguments)
    if options.repo and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_.-]+", options.repo):
        parser.error(f"{options.repo!r} is not owner/name: type for instance make badges REPO=jane/xlt_tutorial")
    if options.tag and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", options.tag):
        parser.error(f"{options.tag!r} is not a tag: type for instance make badges TAG=v0.1.0")
    change(root, **{key: new for key, new in (("repository", options.repo), ("tag", options.tag)) if new})
    if NOT_SET in Home.read(root).repository:
        print("The repository's owner is not set: make badges REPO=owner/name")
    check = ["--check"] if options.check else []
    return max(write_or_check(path, text, "make badges", check) for path, text in renewed(root).items())


if __name__ == "__main__":
    sys.exit(main())
