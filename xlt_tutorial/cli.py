"""The command ``xlt``: ``xlt doctor``, ``xlt train``, ``xlt demo``."""

from __future__ import annotations

import os
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlt_tutorial.errors import XltError, unknown

if TYPE_CHECKING:
    from xlt_tutorial.batching import Maker
    from xlt_tutorial.encoders import Encoder
    from xlt_tutorial.tasks import ParallelTask
    from xlt_tutorial.training import Run

MAKERS = ("neighbours", "neighbours-source", "synonyms", "noise")
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


def main() -> None:
    """Run the command line."""
    warnings.formatwarning = lambda message, *_, **__: f"Note: {message}\n"
    app(prog_name="xlt")


@contextmanager
def _plainly(after_interrupt: str) -> Iterator[None]:
    """Turn the reader's errors into one sentence and exit code 1, Ctrl-C into a hint and 130."""
    try:
        yield
    except XltError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo(f"\nStopped. {after_interrupt}", err=True)
        raise typer.Exit(130) from None


@app.command()
def doctor() -> None:
    """Look at this machine: what is here, what is missing, what will run and about how long."""
    from xlt_tutorial.doctor import examine

    with _plainly("Nothing was changed."):
        examination = examine()
        typer.echo(str(examination))
        raise typer.Exit(0 if examination.ok else 1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of results.json and report.html.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Seed of both runs.")] = 0,
) -> None:
    """Train vanilla and EAR on the task "emoji", test and align both, and write a report."""
    from xlt_tutorial.demo import demo_text, run_demo

    with _plainly(f"The demo keeps no checkpoints: {_command()} starts again. {out} holds what was finished."):
        typer.echo("\n" + demo_text(run_demo(out, seed), out))


@app.command()
def train(
    task: Annotated[str, typer.Option(help='"emoji", or a folder of <split>.<language>.tsv files.')] = "emoji",
    encoder: Annotated[str, typer.Option(help="e5-small, a hub name, or a folder.")] = "e5-small",
    source: Annotated[str, typer.Option(help="Where e5-small comes from: auto, wheel or hub.")] = "auto",
    method: Annotated[str, typer.Option(help="vanilla (compute-matched) or ear (as published).")] = "ear",
    maker: Annotated[str, typer.Option(help=f"Virtual stream of ear: {', '.join(MAKERS)}.")] = "neighbours",
    table: Annotated[Path | None, typer.Option(help="Word table of the maker synonyms, .json or .tsv.")] = None,
    seed: Annotated[int, typer.Option(help="Decides head, order, swaps and dropout.")] = 0,
    epochs: Annotated[int, typer.Option()] = 8,
    learning_rate: Annotated[float, typer.Option()] = 1e-4,
    batch_size: Annotated[int, typer.Option(help="Original sentences in a batch.")] = 32,
    max_length: Annotated[int, typer.Option(help="Longest sequence in tokens; ear pads to it.")] = 32,
    select: Annotated[str, typer.Option(help="last step, or best epoch on held-out source data.")] = "last",
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 where the processor has it.")] = "float32",
    max_tokens: Annotated[int, typer.Option(help="Padded tokens in one forward; 0: the whole batch.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Default: runs/<task>-<method>-<seed>.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run that the folder holds.")] = False,
    oracle: Annotated[bool, typer.Option(help="Also report what the targets would have selected.")] = False,
) -> None:
    """Fine-tune on the source language alone, test in every language, and keep model and numbers."""
    again = _command() if resume else f"{_command()} --resume"
    with _plainly(f"To go on from the last checkpoint: {again}"):
        start = time.perf_counter()
        from xlt_tutorial.objectives import EAR, METHODS, make_objective
        from xlt_tutorial.tasks import load_task
        from xlt_tutorial.training import Recipe
        from xlt_tutorial.training import train as fit

        if method not in METHODS:
            raise unknown("method", method, METHODS)
        if maker not in MAKERS:
            raise unknown("maker", maker, MAKERS)
        recipe = Recipe(
            epochs, learning_rate, batch_size, max_length, select=select, precision=precision, max_tokens=max_tokens
        )
        data = load_task(task)
        folder = out or Path("runs") / f"{data.name}-{method}-{seed}"
        if (folder / "settings.json").exists() and not resume:
            raise XltError(f"{folder} already holds a run. Add --resume to go on with it, or choose another --out.")
        swapper, base = _prepare(data, encoder, source, maker if method == "ear" else None, table, max_length)
        objective = EAR.published(width=max_length) if method == "ear" else make_objective(method)
        run = fit(data, base, objective, swapper, recipe, seed, folder, resume, oracle)
        _keep(run, base, data, folder, start)


def _prepare(
    task: ParallelTask, name: str, source: str, maker: str | None, table: Path | None, max_length: int
) -> tuple[Maker | None, Encoder]:
    """Return the maker and the encoder, its vocabulary trimmed where that can be done."""
    from xlt_tutorial.encoders import load_encoder
    from xlt_tutorial.perturb import EmbeddingNoise, NeighbourSwap, SynonymSwap

    if (maker == "synonyms") != (table is not None):
        raise XltError("--maker synonyms and --table FILE go together: give both, or neither.")
    synonyms = SynonymSwap.from_file(table, max_length=max_length) if table is not None else None
    full = load_encoder(name, source)
    made: Maker | None = synonyms
    keep: set[Any] = set()
    if maker is not None and maker.startswith("neighbours"):
        splits = [split for split in ("train", "dev") if task.source in task.splits.get(split, {})]
        english = [text for split in splits for text in task.texts(split, task.source)]
        made = swap = NeighbourSwap.fit(full, english, only="source" if maker == "neighbours-source" else None)
        keep = set(swap.pieces)
    elif synonyms is not None:
        words = sorted({word for near in synonyms.table.values() for word in near})
        forms = [form for word in words for form in (word, word[:1].upper() + word[1:], word.upper())]
        keep = {i for ids in full.tokenizer(forms)["input_ids"] for i in ids}
    elif maker == "noise":
        made = EmbeddingNoise.fit(full)
    if type(full.tokenizer.backend_tokenizer.model).__name__ != "Unigram":
        return made, full
    del full
    return made, load_encoder(name, source, trim_to=task, keep=keep)


def _keep(run: Run, base: Encoder, task: ParallelTask, folder: Path, start: float) -> None:
    """Evaluate; write model, history and result; print the table."""
    from safetensors.torch import save_file

    from xlt_tutorial.demo import scores_text, write_json
    from xlt_tutorial.doctor import machine, peak_memory_mb, versions
    from xlt_tutorial.evaluation import evaluate

    scores = evaluate(
        run.model, base.tokenizer, task, max_length=run.settings["recipe"]["max_length"], progress=True
    ).as_dict()
    # The encoder under its own names, with the head beside it: load_encoder(folder) reads what is its own.
    weights = run.encoder.model.state_dict() | {f"head.{k}": v for k, v in run.model.head.state_dict().items()}
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.part", metadata={"format": "pt"})
    os.replace(folder / "model.part", folder / "model.safetensors")
    run.encoder.model.config.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    write_json(folder / "history.json", run.history)
    result: dict[str, Any] = {"versions": versions(), "platform": machine(), "settings": run.settings}
    result |= {"selected": run.selected, "oracle": run.oracle, "scores": scores, "gradient_shares": run.shares()}
    result["seconds"] = {"train": round(run.seconds, 2), "total": round(time.perf_counter() - start, 2)}
    write_json(folder / "result.json", result | {"peak_memory_mb": round(peak_memory_mb(), 1)})
    typer.echo("\n" + scores_text({run.settings["objective"]["name"]: scores}))
    if run.oracle is not None:
        typer.echo(f"For comparison only, what the target languages would have selected: {run.oracle}")
    typer.echo(f"\nResults: {folder / 'result.json'}\nModel:   {folder / 'model.safetensors'}")


def _command() -> str:
    return shlex.join(["xlt", *sys.argv[1:]])
