"""The command ``xlt``: doctor, demo, train, compare, save, restore."""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from xlt_tutorial.errors import XltError

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
    task: Annotated[str | None, typer.Option(help='"emoji", xnli, ..., or a folder of <split>.<language>.tsv.')] = None,
    encoder: Annotated[str | None, typer.Option(help="e5-small, a hub name, or a folder.")] = None,
    source: Annotated[str | None, typer.Option(help="Where e5-small comes from: auto, wheel or hub.")] = None,
    method: Annotated[str | None, typer.Option(help="ear (the default), vanilla, rsda, rsrp, ...")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Of the method: --option alpha=1 --option push=hinge.")
    ] = None,
    maker: Annotated[str | None, typer.Option(help="Virtual stream: neighbours, synonyms, noise, ...")] = None,
    maker_option: Annotated[list[str] | None, typer.Option(help="Of the maker: --maker-option rate=0.5.")] = None,
    table: Annotated[str | None, typer.Option(help="Word table of the maker synonyms, .json or .tsv.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides head, order, swaps and dropout.")] = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option(help="Original sentences in a batch, over all processes.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Longest sequence in tokens; ear pads to it.")] = None,
    select: Annotated[str | None, typer.Option(help="last step, or best epoch on held-out source data.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, or bfloat16 where the processor has it.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Padded tokens in one forward; 0: the whole batch.")] = None,
    config: Annotated[Path | None, typer.Option(help="A setting as JSON; options given here override it.")] = None,
    write_config: Annotated[Path | None, typer.Option(help="Write the setting as JSON and stop.")] = None,
    out: Annotated[Path | None, typer.Option(help="Default: runs/<task>-<method>-<seed>.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run that the folder holds.")] = False,
    oracle: Annotated[bool, typer.Option(help="Also report what the targets would have selected.")] = False,
) -> None:
    """Fine-tune on the source language alone, test in every language, and keep model and numbers.

    The tasks xnli and pawsx have the paper's setting by default, all others that of the lab. Several processes:
    accelerate launch -m xlt_tutorial train ...
    """
    again = _command() if resume else f"{_command()} --resume"
    with _plainly(f"To go on from the last checkpoint: {again}"):
        from xlt_tutorial.demo import scores_text
        from xlt_tutorial.experiment import Setting, run_setting
        from xlt_tutorial.files import write_json

        setting = Setting.from_file(config) if config else Setting.for_task(task or "emoji", method or "ear")
        recipe: dict[str, Any] = {
            "epochs": epochs,
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "max_length": max_length,
        }
        recipe |= {"select": select, "precision": precision, "max_tokens": max_tokens}
        given: dict[str, Any] = {
            "task": task,
            "encoder": encoder,
            "source": source,
            "method": method,
            "maker": maker,
            "table": table,
        }
        given |= {"seed": seed, "recipe": replace(setting.recipe, **_given(recipe))}
        if option:
            given["options"] = {**setting.options, **_pairs(option)}
        if maker_option:
            given["maker_options"] = {**setting.maker_options, **_pairs(maker_option)}
        setting = replace(setting, **_given(given))
        if write_config is not None:
            write_json(write_config, setting.as_dict())
            typer.echo(f"The setting is in {write_config}. To run it: xlt train --config {write_config}")
            return
        folder = out or Path("runs") / f"{Path(setting.task).name}-{setting.method}-{setting.seed}"
        if (folder / "settings.json").exists() and not resume:
            raise XltError(f"{folder} already holds a run. Add --resume to go on with it, or choose another --out.")
        result = run_setting(setting, folder, resume, oracle)
        if not result:
            return  # another process tells
        typer.echo("\n" + scores_text({result["settings"]["objective"]["name"]: result["scores"]}))
        if oracle:
            typer.echo(f"For comparison only, what the target languages would have selected: {result['oracle']}")
        typer.echo(f"\nResults: {folder / 'result.json'}\nModel:   {folder / 'model.safetensors'}")


@app.command()
def compare(
    methods: Annotated[str, typer.Option(help="vanilla,ear,ear-R,...; vanilla is the baseline.")] = "vanilla,ear",
    seeds: Annotated[str, typer.Option(help="0-4, or 0,2,7.")] = "0-4",
    task: Annotated[str | None, typer.Option(help="As for xlt train.")] = None,
    encoder: Annotated[str | None, typer.Option(help="As for xlt train.")] = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    config: Annotated[Path | None, typer.Option(help="Setting of all methods, from xlt train --write-config.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the grid and its results.")] = Path("runs/compare"),
    oracle: Annotated[bool, typer.Option(help="Score the targets after every epoch too.")] = True,
) -> None:
    """Run methods with several seeds and say what their differences are worth. Call it again to go on."""
    with _plainly(f"What was finished is kept: {_command()} goes on."):
        from xlt_tutorial.compare import BASELINE, comparison_text, seed_range
        from xlt_tutorial.compare import compare as run_and_compare
        from xlt_tutorial.experiment import Setting

        settings = {}
        for method in dict.fromkeys([BASELINE, *(name.strip() for name in methods.split(","))]):
            base = Setting.from_file(config) if config else Setting.for_task(task or "emoji", method)
            recipe = replace(base.recipe, **_given({"epochs": epochs}))
            shared = {name: value for name, value in base.options.items() if name == "copies"}  # equal steps
            options = base.options if method == base.method else shared
            given = _given({"task": task, "encoder": encoder})
            settings[method] = replace(base, **given, method=method, options=options, recipe=recipe)
        found = run_and_compare(settings, seed_range(seeds), out, oracle=oracle, say=typer.echo)
        typer.echo("\n" + comparison_text(found))
        typer.echo(f"Results: {out / 'compare.json'}, compare.md and compare.html beside it")


@app.command()
def save(
    file: Annotated[Path, typer.Argument(help="The zip to write.")] = Path("work.zip"),
    folder: Annotated[Path, typer.Option(help="The course's folder.")] = Path("."),
) -> None:
    """Pack changed notebooks and runs into one file, to download before a server forgets them."""
    from xlt_tutorial.keep import save as pack

    with _plainly("Nothing was written."):
        typer.echo(str(pack(file, folder)))


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="The zip from xlt save.")] = Path("work.zip"),
    folder: Annotated[Path, typer.Option(help="The course's folder.")] = Path("."),
) -> None:
    """Put saved work back; what is there and differs is renamed first."""
    from xlt_tutorial.keep import restore as unpack

    with _plainly("Call it again: what is the same already stays."):
        typer.echo(str(unpack(file, folder)))


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _pairs(options: list[str]) -> dict[str, Any]:
    """Read ``name=value``; a value is JSON where it can be read as such, else text."""
    pairs = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not sign:
            raise XltError(f'"{option}" is not name=value, such as alpha=0.5 or push=hinge.')
        try:
            pairs[name] = json.loads(value)
        except ValueError:
            pairs[name] = value
    return pairs


def _command() -> str:
    return shlex.join(["xlt", *sys.argv[1:]])
