"""Make slides of what the published notebooks show: ``python tools/slides.py [decks]`` writes ``docs/_build/slides``.

``docs/teaching/slides.toml`` names, slide by slide, a notebook, one of its sections and what of that section to show:
"paragraph 1", "list 1", "math 1", "table 1", "code 2", "figure 1", "output 1", counted within the section. So slides
hold no text or number of their own: they are those of the notebook, as it was published. A deck is one HTML file that
needs no network: pictures, style and script are inside, formulas are MathML. ``--check`` only looks whether all is
there.
"""

from __future__ import annotations

import argparse
import html
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bleach
import jinja2
import nbformat
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from xlt_tutorial.files import write_whole

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS, TEACHING, OUT = ROOT / "notebooks", ROOT / "docs" / "teaching", ROOT / "docs" / "_build" / "slides"
KINDS = {"paragraph": "paragraph", "bullet_list": "list", "ordered_list": "list", "table": "table"}
KINDS |= {"math_block": "math", "math_block_label": "math", "fence": "code", "blockquote": "quote"}
PLOTLY = "application/vnd.plotly.v1+json"
# What pandas writes, and nothing that runs or loads.
TAGS = {"table", "thead", "tbody", "tr", "th", "td", "p", "div", "em", "strong", "code", "br", "sub", "sup", "bdi"}
FORMATTER = HtmlFormatter(nowrap=True)

Math = Callable[[str, bool], str]


class SlidesError(Exception):
    """A slide that asks for what is not there, and what is."""


@dataclass(frozen=True)
class Block:
    """A piece of a section; ``name`` is its kind and its number there, such as "figure 1"."""

    name: str
    html: str

    @property
    def kind(self) -> str:
        """The word before the number."""
        return self.name.split()[0]


def mathml(tex: str, display: bool) -> str:
    """Return a formula as MathML, which browsers draw and screen readers read."""
    try:
        from latex2mathml.converter import convert
    except ImportError:
        raise SlidesError("latex2mathml is missing: `make slides` installs requirements-docs.txt first.") from None
    plain = tex.replace(r"\operatorname*", r"\operatorname").replace(r"\arg", r"\operatorname{arg}")
    made = str(convert(plain, display="block" if display else "inline"))
    if unknown := re.findall(r"\\[a-zA-Z]+", made):  # it lets commands through that it does not know
        raise SlidesError(f"No MathML is known for {', '.join(unknown)} in the formula {tex}")
    return made


def markdown(math: Math) -> MarkdownIt:
    """Return a renderer of Markdown with tables and formulas; HTML in a text is shown as text."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.use(dollarmath_plugin, double_inline=True, renderer=lambda tex, options: math(tex, options["display_mode"]))

    def link_open(tokens: list[Token], i: int, *_: Any) -> str:
        """A link between notebooks leads nowhere from a slide: its text stays."""
        href = str(tokens[i].attrGet("href") or "")
        return f'<a href="{html.escape(href)}">' if href.startswith(("https://", "http://")) else "<a>"

    parser.renderer.rules["link_open"] = link_open  # type: ignore[attr-defined]
    return parser


def sections(notebook: NotebookNode, math: Math = mathml) -> dict[str, list[Block]]:
    """Return heading -> blocks of a notebook, its title first; equal headings share one list."""
    parser, found = markdown(math), dict[str, list[Block]]()
    here: list[Block] = found.setdefault("", [])
    counts: dict[int, Counter[str]] = {}

    def add(kind: str, text: str) -> None:
        count = counts.setdefault(id(here), Counter())
        count[kind] += 1
        here.append(Block(f"{kind} {count[kind]}", text))

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for tokens in _top_level(parser.parse(cell.source)):
                if tokens[0].type == "heading_open":
                    here = found.setdefault(tokens[1].content, [])
                    continue
                kind = KINDS.get(tokens[0].type.removesuffix("_open"))
                inner = [child.type for child in (tokens[1].children or [])] if len(tokens) == 3 else []
                kind = "math" if inner == ["math_inline_double"] else kind
                if kind:
                    add(kind, parser.renderer.render(tokens, parser.options, {}))
        elif cell.cell_type == "code":
            add("code", f"<pre><code>{highlight(cell.source, PythonLexer(), FORMATTER)}</code></pre>")
            for kind, text in _outputs(cell.get("outputs", []), parser):
                add(kind, text)
    return found


def _top_level(tokens: list[Token]) -> list[list[Token]]:
    """Cut a list of tokens into its blocks."""
    groups: list[list[Token]] = []
    for token in tokens:
        if token.level == 0 and token.nesting >= 0:
            groups.append([])
        groups[-1].append(token)
    return groups


def _outputs(outputs: list[NotebookNode], parser: MarkdownIt) -> list[tuple[str, str]]:
    """Return kind and HTML of each output; a figure takes the sentence that follows it along."""
    found, skip = list[tuple[str, str]](), False
    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data and PLOTLY in data:
            alt = output.metadata.get("image/png", {}).get("alt", data.get("text/plain", ""))
            picture = f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{"".join(data["image/png"].split())}">'
            found.append(("figure", f"<figure>{picture}<figcaption>{html.escape(alt)}</figcaption></figure>"))
            skip = True
            continue
        if skip and "text/markdown" in data:
            skip = False
            continue
        if "text/html" in data:
            found.append(
                ("output", f'<div class="scroll">{bleach.clean(_bare(data["text/html"]), TAGS, {}, strip=True)}</div>')
            )
        elif "text/markdown" in data:
            found.append(("output", parser.render(data["text/markdown"])))
        elif text := data.get("text/plain") or (output.get("text") if output.get("name") == "stdout" else ""):
            found.append(("output", f"<pre>{html.escape(text)}</pre>"))
    return found


def _bare(table: str) -> str:
    """Take the style of a pandas table out, text and all."""
    return re.sub(r"<style.*?</style>", "", table, flags=re.S)


@dataclass(frozen=True)
class Slide:
    """What one slide shows."""

    title: str
    place: str  # notebook and section, for the foot
    blocks: tuple[Block, ...]
    note: str

    @property
    def layout(self) -> str:
        """ "wide" with a figure and something beside it, else "plain"."""
        kinds = [block.kind for block in self.blocks]
        return "wide" if "figure" in kinds and len(kinds) > 1 else "plain"


@dataclass(frozen=True)
class Deck:
    """One file of slides."""

    file: str
    title: str
    subtitle: str
    slides: tuple[Slide, ...]


def decks(table: Path = TEACHING / "slides.toml", notebooks: Path = NOTEBOOKS, math: Math = mathml) -> list[Deck]:
    """Read the table and fetch what it asks for.

    Raises:
        SlidesError: For a notebook, section or block that is not there; it names those there are.
    """
    read: dict[str, dict[str, list[Block]]] = {}
    found = []
    for deck in tomllib.loads(table.read_text(encoding="utf-8"))["deck"]:
        made = []
        for number, slide in enumerate(deck["slide"], 1):
            name, heading = slide["notebook"], slide["heading"]
            where = f"{table.name}, {deck['file']}, slide {number}"
            if name not in read:
                path = notebooks / f"{name}.ipynb"
                if not path.exists():
                    raise SlidesError(f"{where}: no notebook {name}. Publish it, or take the slide out.")
                read[name] = sections(nbformat.read(path, as_version=4), math)
            if heading not in read[name]:
                known = "; ".join(filter(None, read[name]))
                raise SlidesError(f"{where}: {name} has no section {heading!r}. It has: {known}.")
            held = {block.name: block for block in read[name][heading]}
            if missing := [block for block in slide["show"] if block not in held]:
                raise SlidesError(f"{where}: no {', '.join(missing)} in {heading!r}. It holds: {', '.join(held)}.")
            made.append(
                Slide(
                    slide.get("title", heading),
                    f"{name} · {heading}",
                    tuple(held[block] for block in slide["show"]),
                    slide.get("note", ""),
                )
            )
        found.append(Deck(deck["file"], deck["title"], deck["subtitle"], tuple(made)))
    return found


def page(deck: Deck, template: Path = TEACHING / "slides.html.j2") -> str:
    """Return the HTML file of a deck."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    text = template.read_text(encoding="utf-8")
    return environment.from_string(text).render(deck=deck, colours=HtmlFormatter(style="default").get_style_defs("pre"))


def main(arguments: list[str] | None = None, out: Path = OUT) -> int:
    """Write the decks, or check them; 1 where something is missing."""
    parser = argparse.ArgumentParser(description="Make slides from the published notebooks.")
    parser.add_argument("names", nargs="*", help="such as session-90; all decks when none is given")
    parser.add_argument("--check", action="store_true", help="look whether all of it is there, and write nothing")
    options = parser.parse_args(arguments)
    try:
        made = decks()
    except SlidesError as error:
        print(error, file=sys.stderr)
        return 1
    known = [deck.file for deck in made]
    if odd := [name for name in options.names if name not in known]:
        print(f"No deck {', '.join(odd)}; there are {', '.join(known)}.", file=sys.stderr)
        return 1
    for deck in made:
        if deck.file not in (options.names or known):
            continue
        text = page(deck)
        if not options.check:
            out.mkdir(parents=True, exist_ok=True)
            write_whole(out / f"{deck.file}.html", text)
        print(f"{deck.file}.html: {len(deck.slides) + 1} slides, {len(text) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
