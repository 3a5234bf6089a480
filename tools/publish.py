"""Execute the notebooks' sources and publish them: ``python tools/publish.py [names]``.

``--check`` compares without running. ``--prose`` carries changed prose over to a notebook whose code cells are still
those of its source, and keeps the outputs that this code made.

A source is ``notebooks/src/NN_name.py`` in jupytext's py:percent. The cell of ``_first_cell.py`` is put before its
first code cell, and the links of ``badges`` under its title, so no source holds them. Each source runs in a fresh
kernel of this interpreter, in ``notebooks``, with ``XLT_PUBLISH=1`` (``figures.show`` then adds PNGs, with kaleido and
a chromium) and without the readers' switches.
Published are outputs without widgets, progress bars and paths of this machine; a cell's id follows from its content, so
that a new run makes a small diff. Nothing is written where a cell fails, a figure has no PNG, or the file would be over
1 MB. Close other programs first: the time it took is recorded in the notebook.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import badges
import jupytext
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
COMPARED = ("id", "cell_type", "source", "metadata")
LIMIT = 1_000_000  # bytes of a published file
SWITCHES = ("XLT_TASK", "XLT_ENCODER", "XLT_METHOD", "XLT_PUBLISH")
PLOTLY, WIDGET = "application/vnd.plotly.v1+json", "application/vnd.jupyter.widget-view+json"
KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python", "file_extension": ".py"}}
# Runs after the last cell and is not published. VmHWM, as ru_maxrss also counts the process that started this one.
MEASURE = """
try:
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
except OSError:
    import resource, sys
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1))
"""


class PublishError(Exception):
    """A notebook that must not be published, and why."""


def sources(names: list[str] | None = None, folder: Path = NOTEBOOKS) -> list[Path]:
    """Return the sources in ``folder/src``, or those whose name or number is given."""
    found = {path.stem: path for path in sorted((folder / "src").glob("[0-9][0-9]_*.py"))}
    wanted = [Path(name).stem for name in names or found]
    if odd := [name for name in wanted if not any(name in (stem, stem[:2]) for stem in found)]:
        raise SystemExit(f"No source {', '.join(odd)}; there are {', '.join(found)}.")
    return [path for stem, path in found.items() if stem in wanted or stem[:2] in wanted]


def sha256(source: Path) -> str:
    """Return the sum of what decides a notebook's cells: the common first cell and its source."""
    return hashlib.sha256(source.with_name("_first_cell.py").read_bytes() + source.read_bytes()).hexdigest()


def code_sha256(source: Path) -> str:
    """Return the sum of a notebook's code, in the order of its cells; prose leaves it as it is."""
    cells = [cell.source for cell in read_source(source).cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(cells).encode()).hexdigest()


def read_source(source: Path) -> NotebookNode:
    """Return the notebook of a source, unexecuted, with the common first cell before its first code cell, and links."""
    notebook = jupytext.read(source, fmt="py:percent")
    first = nbformat.v4.new_code_cell(source.with_name("_first_cell.py").read_text(encoding="utf-8").rstrip("\n"))
    first.metadata["tags"] = [badges.TAG]
    kinds = [cell.cell_type for cell in notebook.cells]
    if "code" not in kinds or any(cell.source == first.source for cell in notebook.cells):
        raise PublishError("it has no code cell, or holds the common first cell itself, which is put in here")
    notebook.cells.insert(kinds.index("code"), first)
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] += 1
        cell.id = f"{digest}-{seen[digest]}"
        cell.metadata = NotebookNode({key: value for key, value in cell.metadata.items() if key == "tags"})
    badges.Home.read().place(notebook, source.stem)  # after the ids, which do not follow where the course lives
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def execute(notebook: NotebookNode, cwd: Path, timeout: int = 900, **env: str) -> dict[str, int]:
    """Run every cell in a fresh kernel of this interpreter, in place, with an empty cache and no readers' switches.

    Args:
        notebook: From ``read_source``.
        cwd: The kernel's folder; ``timeout``: seconds that one cell may take; ``env``: added to the environment.

    Returns:
        ``seconds`` and ``peak_memory_mb``, the greatest resident size of the kernel's process.

    Raises:
        PublishError: With the source of the cell that failed and its traceback.
    """
    # This environment's kernel, whatever python3 the user's own folders may name.
    specs = KernelSpecManager(kernel_dirs=[str(Path(sys.prefix) / "share" / "jupyter" / "kernels")])
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
    run = NotebookNode(notebook, cells=[*notebook.cells, nbformat.v4.new_code_cell(MEASURE)])
    client = NotebookClient(run, km=manager, timeout=timeout, record_timing=False, store_widget_state=False)
    client.extra_arguments = ["--log-level=ERROR"]
    environment = {key: value for key, value in os.environ.items() if key not in SWITCHES}
    began = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as cache:  # empty, as a first-time reader's is
            client.execute(cwd=str(cwd), env=environment | {"XLT_CACHE": cache} | env, cleanup_kc=True)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise PublishError(strip_ansi(str(error))) from None
    return {"seconds": round(time.perf_counter() - began), "peak_memory_mb": int(run.cells[-1].outputs[0].text) // 1024}


def tidy(notebook: NotebookNode) -> None:
    """Take widgets, progress bars and this machine's paths out of the outputs."""
    for cell in notebook.cells:
        kept: list[NotebookNode] = []
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                bars = output.name == "stderr"
                lines = [line for line in output.text.split("\n") if not (bars and (not line or "\r" in line))]
                text = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)
                # A warning's first line starts with a path, its second repeats a line of code.
                output.text = re.sub(r"(?m)^\S+:\d+: (\w*Warning: .*)(\n  .*)?$", r"\1", strip_ansi(text))
                if bars and output.text:
                    output.text += "\n"  # or two warnings run into one line
            if WIDGET not in output.get("data", {}) and output.get("text", "-").strip():
                kept.append(output)
        if cell.cell_type == "code":
            cell.outputs = kept


def problems(notebook: NotebookNode) -> list[str]:
    """Return what forbids publishing: errors, widgets, figures without a PNG, a file over the limit."""
    found = []
    outputs = [(i, output) for i, cell in enumerate(notebook.cells, 1) for output in cell.get("outputs", [])]
    for number, output in outputs:
        data = output.get("data", {})
        if output.output_type == "error":
            found.append(f"cell {number} holds the error {output.ename}: {output.evalue}")
        if WIDGET in data:
            found.append(f"cell {number} holds a widget")
        if PLOTLY in data and "image/png" not in data:
            found.append(f"cell {number} has a figure without a PNG: install chromium or set BROWSER_PATH")
    if (size := len(nbformat.writes(notebook).encode())) > LIMIT:
        sizes = sorted(((len(str(output)), number) for number, output in outputs), reverse=True)
        biggest = ", ".join(f"{part / 1e3:.0f} kB in cell {number}" for part, number in sizes[:3])
        found.append(f"{size / 1e6:.2f} MB is over {LIMIT / 1e6:.0f} MB; the biggest outputs: {biggest}")
    return found


def publish(source: Path) -> dict[str, int]:
    """Run one source and write its notebook; return seconds, peak memory and the file's kilobytes."""
    notebook, digest, folder = read_source(source), sha256(source), source.parent.parent
    cost = execute(notebook, folder, XLT_PUBLISH="1")
    tidy(notebook)
    notebook.metadata = nbformat.from_dict(METADATA | {"xlt": {"source_sha256": digest, **cost}})
    if wrong := problems(notebook):
        raise PublishError("; ".join(wrong))
    target = folder / f"{source.stem}.ipynb"
    write(notebook, target)
    return cost | {"kilobytes": round(target.stat().st_size / 1000)}


def publish_prose(source: Path) -> None:
    """Take over the Markdown cells of a source; PublishError unless every code cell is the one that was run."""
    target = source.parent.parent / f"{source.stem}.ipynb"
    fresh, published = read_source(source), nbformat.read(target, as_version=4)
    made = {cell.id: cell for cell in published.cells if cell.cell_type == "code"}
    if [cell.id for cell in fresh.cells if cell.cell_type == "code"] != list(made):
        raise PublishError("its code has changed since it was run: publish it without --prose")
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.update({key: made[cell.id][key] for key in ("outputs", "execution_count")})
    cost = {key: value for key, value in published.metadata["xlt"].items() if key != "source_sha256"}
    fresh.metadata = nbformat.from_dict(METADATA | {"xlt": {"source_sha256": sha256(source), **cost}})
    write(fresh, target)


def write(notebook: NotebookNode, target: Path) -> None:
    """Write a notebook that is always whole."""
    nbformat.validate(notebook)
    target.with_suffix(".part").write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    target.with_suffix(".part").replace(target)


def differences(source: Path) -> list[str]:
    """Return how a published notebook differs from its source, without running anything."""
    target = source.parent.parent / f"{source.stem}.ipynb"
    if not target.exists():
        return ["not published"]
    published, fresh = nbformat.read(target, as_version=4), read_source(source)
    if len(fresh.cells) != len(published.cells):
        return [f"{len(fresh.cells)} cells in the source, {len(published.cells)} in the notebook"]
    pairs = enumerate(zip(published.cells, fresh.cells, strict=True), 1)
    found = [f"cell {i} is not the source's" for i, (old, new) in pairs if any(old[k] != new[k] for k in COMPARED)]
    if not found and published.metadata.get("xlt", {}).get("source_sha256") != sha256(source):
        found.append("made from another version of the source")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Publish or check, and print what each took; 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description="Execute and publish the notebooks.")
    parser.add_argument("names", nargs="*", help="such as 00_start_here or 00; all when none is given")
    parser.add_argument("--check", action="store_true", help="compare sources and notebooks without running them")
    parser.add_argument("--prose", action="store_true", help="carry over changed prose, keep the outputs")
    options = parser.parse_args(arguments)
    failed = False
    for source in sources(options.names):
        try:
            if options.check:
                result = "; ".join(wrong := differences(source)) or "as its source"
                failed |= bool(wrong)
            elif options.prose:
                publish_prose(source)
                result = "prose carried over"
            else:
                cost = publish(source)
                result = f"{cost['seconds']:6} s{cost['peak_memory_mb']:7} MB{cost['kilobytes']:7} kB"
        except PublishError as error:
            failed, result = True, f"NOT PUBLISHED: {error}"
        print(f"{source.stem:36}{result}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
