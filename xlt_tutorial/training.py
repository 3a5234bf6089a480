"""One training loop for every objective: English in, a classifier and the history of every loss term out."""

from __future__ import annotations

import copy
import json
import math
import shutil
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from xlt_tutorial.batching import Batch, Maker, Row, TwoStreamBatches, encode_rows, process_part, row_generator, slices
from xlt_tutorial.encoders import Classifier, Encoder
from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.evaluation import Scores, evaluate, predict
from xlt_tutorial.files import is_whole, sweep, whole_folder, write_whole
from xlt_tutorial.system import release_memory

if TYPE_CHECKING:
    from accelerate import Accelerator

    from xlt_tutorial.objectives import Objective
    from xlt_tutorial.tasks import ParallelTask

SELECTIONS = ("last", "source")
PRECISIONS = ("float32", "bfloat16")
INERT = 0.01


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run; the defaults are those of the offline lab.

    Attributes:
        epochs: Passes over the training rows.
        learning_rate: Peak, with linear warm-up and linear decay to zero.
        batch_size: Original sentences in a batch.
        max_length: Longest sequence in tokens.
        warmup: Share of the steps that warm up.
        weight_decay: On matrices, not on biases and LayerNorms.
        dropout: Before the linear layer.
        max_grad_norm: Gradients are clipped to this norm.
        accumulate: Batches whose gradients are averaged into one step.
        select: ``last`` takes the last step; ``source`` the best epoch on held-out source-language data.
        share_every: Steps between two measurements of the gradient shares; 0 for none.
        checkpoint_every: Steps between checkpoints; 0 for one at the end of each epoch.
        precision: ``float32``, or ``bfloat16`` for autocast: weights, losses and scores stay in float32.
        max_tokens: Padded tokens in one forward, both streams counted; a batch of more is cut into slices whose
            gradients add up to its own, which costs less memory for the same step. 0 never cuts.
    """

    epochs: int = 8
    learning_rate: float = 1e-4
    batch_size: int = 32
    max_length: int = 32
    warmup: float = 0.1
    weight_decay: float = 0.01
    dropout: float = 0.1
    max_grad_norm: float = 1.0
    accumulate: int = 1
    select: str = "last"
    share_every: int = 10
    checkpoint_every: int = 0
    precision: str = "float32"
    max_tokens: int = 0

    def __post_init__(self) -> None:
        if self.select not in SELECTIONS:
            raise unknown("selection", self.select, SELECTIONS)
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        for name in ("epochs", "batch_size", "max_length", "accumulate"):
            if getattr(self, name) < 1:
                raise XltError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.max_tokens < 0:
            raise XltError(f"max_tokens is {self.max_tokens}; it must be 0 (never cut) or more.")
        if not self.learning_rate > 0:
            raise XltError(f"learning_rate is {self.learning_rate}; it must be above 0.")

    @classmethod
    def published(cls, epochs: int) -> Recipe:
        """Return the paper's settings: lr 2e-5, no warm-up, no decay, length 128; 1 epoch on XNLI, 30 on PAWS-X."""
        return cls(epochs=epochs, learning_rate=2e-5, max_length=128, warmup=0.0, weight_decay=0.0)


@dataclass
class Run:
    """A finished training run.

    Attributes:
        model: The selected classifier, in evaluation mode.
        encoder: Its encoder and tokenizer as an ``Encoder``.
        history: One row a step: ``step``, ``epoch``, ``lr``, ``loss``, ``terms``, ``grad_norm`` and, now and then,
            ``shares``.
        settings: Everything that decided the result.
        selected: Step whose weights were taken, the rule, and the score that chose it.
        oracle: The same chosen on the target languages, for comparison only; ``None`` unless asked for.
        seconds: Wall-clock time of the loop.
        epochs: One row an epoch: ``step``, and the accuracies that were asked for: ``source`` (held-out source data),
            ``virtual`` (the same after the maker), ``target_mean`` and ``targets`` (for comparison only).
        main: Whether this is the first of the processes that trained together.
    """

    model: Classifier
    encoder: Encoder
    history: list[dict[str, Any]]
    settings: dict[str, Any]
    selected: dict[str, Any]
    oracle: dict[str, Any] | None
    seconds: float
    epochs: list[dict[str, Any]] = field(default_factory=list)
    main: bool = True

    def shares(self) -> dict[str, float]:
        """Return each weighted term's mean share of the gradient over all measurements."""
        measured = [row["shares"] for row in self.history if "shares" in row]
        return {term: float(np.mean([row[term] for row in measured])) for term in (measured[0] if measured else {})}


@dataclass
class _State:
    """Where the loop is; with accelerate's own state this is all that a checkpoint holds."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    oracle: dict[str, Any] | None = None
    objective: dict[str, float] = field(default_factory=dict)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)


def train(
    task: ParallelTask,
    encoder: Encoder,
    objective: Objective,
    maker: Maker | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    oracle: bool = False,
    progress: bool = True,
) -> Run:
    """Fine-tune on the source language alone.

    Started by ``accelerate launch``, each process takes an equal part of every batch, and the steps are those of one
    process: order and virtual sentences are the same, dropout is not.

    Args:
        task: Its source-language ``train`` split is what is trained on.
        encoder: Copied, so it can be compared with the trained one afterwards.
        objective: From ``objectives``.
        maker: From ``perturb``; needed where the objective reads a virtual stream.
        recipe: ``Recipe()`` when ``None``.
        seed: Decides head, order, swaps and dropout.
        out: Folder for checkpoints; none are written when ``None``.
        resume: Continue the run that ``out`` holds.
        oracle: Also report the epoch that the *target* languages would have chosen. It never affects the model.
        progress: Show a bar with time left and live losses.

    Returns:
        The run with the selected model.

    Raises:
        XltError: No training data, no maker, an encoder without the pulled layer, a folder that holds another run, or
            a loss that is no longer finite.
    """
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    recipe = recipe or Recipe()
    accelerator = Accelerator(step_scheduler_with_optimizer=False)  # else every process would step the schedule
    device = accelerator.device
    if recipe.precision == "bfloat16" and not has_bfloat16(device):
        raise XltError(f"This machine's {device.type} has no bfloat16 products. Use precision='float32'.")
    if objective.virtual and maker is None:
        raise XltError(f'The objective "{objective.name}" reads a virtual stream: pass maker=NeighbourSwap.fit(...).')
    if objective.adaptive and not recipe.share_every:
        raise XltError(f'"{objective.name}" sets its weights by measured gradients: pass Recipe(share_every=10).')
    objective.check(encoder.model)
    rows, held_out = _training_rows(task, encoder, recipe, seed)
    virtual = _virtual_rows(held_out, encoder, maker, seed)
    settings = run_settings(task, encoder, objective, maker, recipe, seed)
    folder = Path(out) if out is not None else None
    if folder is not None:
        _claim(accelerator, folder, settings, resume)

    release_memory()  # of what the caller has dropped: the peak comes below
    set_seed(seed)
    model = Classifier(copy.deepcopy(encoder.model).train(), len(task.labels), recipe.dropout)
    batches = TwoStreamBatches(
        rows, encoder.tokenizer, recipe.batch_size, seed, objective.streams,
        maker if objective.virtual else None, objective.copies, objective.pad_to,
    )  # fmt: skip
    per_epoch = math.ceil(len(batches) / recipe.accumulate)
    optimizer, scheduler = _optimizer(model, recipe, per_epoch * recipe.epochs)
    # Not wrapped for distributed training: objectives reach into the encoder, and ``_step`` adds up gradients itself.
    model = accelerator.prepare_model(model, evaluation_mode=True)
    optimizer, scheduler = accelerator.prepare(optimizer, scheduler)
    if accelerator.process_index:  # the same weights everywhere, but other dropout
        set_seed(seed + 7919 * accelerator.process_index)
    state, best_weights = _restore(accelerator, folder) if folder is not None and resume else (_State(), None)
    objective = copy.deepcopy(objective)  # what it adapts belongs to this run
    objective.restore(state.objective)

    start = time.perf_counter() - state.seconds
    bar = _bar(per_epoch * recipe.epochs, state.step, objective.name, progress and accelerator.is_main_process)

    def keep() -> None:
        if folder is not None:
            state.seconds, state.objective = time.perf_counter() - start, objective.state()
            _checkpoint(accelerator, folder, state, best_weights)

    try:
        while state.epoch < recipe.epochs:
            for batch in _grouped(batches.epoch(state.epoch, state.batch), recipe.accumulate):
                row = _step(accelerator, model, optimizer, scheduler, objective, batch, recipe, state.step)
                state.step, state.batch = state.step + 1, state.batch + len(batch)
                row |= {"step": state.step, "epoch": state.epoch + state.batch / len(batches)}
                state.history.append(row)
                bar.update()
                bar.set_postfix({name: f"{value:.3g}" for name, value in row["terms"].items()}, refresh=False)
                due = recipe.checkpoint_every and state.step % recipe.checkpoint_every == 0
                if due and state.batch < len(batches):
                    keep()
            _warn_inert(state)
            best_weights = _select(model, encoder, task, recipe, state, held_out, virtual, oracle, best_weights)
            state.epoch, state.batch = state.epoch + 1, 0
            keep()
    finally:
        bar.close()
    seconds = time.perf_counter() - start
    trained: Classifier = accelerator.unwrap_model(model)
    accelerator.free_memory()
    if best_weights is not None:
        trained.load_state_dict(best_weights)
    trained.eval().zero_grad(set_to_none=True)
    best_weights = None
    del optimizer, scheduler
    release_memory()
    selected = state.best or {"rule": "last", "step": state.step}
    after = Encoder(trained.encoder, encoder.tokenizer, encoder.name, encoder.source, encoder.fingerprint)  # type: ignore[arg-type]
    main = accelerator.is_main_process
    return Run(trained, after, state.history, settings, selected, state.oracle, seconds, state.epochs, main)


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether the device multiplies in bfloat16 by itself; where it does not, autocast only slows it down."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return any(held is True and "bf16" in name for name, held in known.items())


def run_settings(
    task: ParallelTask, encoder: Encoder, objective: Objective, maker: Maker | None, recipe: Recipe, seed: int
) -> dict[str, Any]:
    """Return what decides a run's result, as plain values for a result file."""
    return {
        "task": {"name": task.name, "fingerprint": task.fingerprint, "revision": task.revision},
        "encoder": {"name": encoder.name, "source": encoder.source, "fingerprint": encoder.fingerprint},
        "objective": objective.settings(),
        "maker": maker.settings() if maker is not None and objective.virtual else None,
        "recipe": asdict(recipe),
        "seed": seed,
    }


def _training_rows(task: ParallelTask, encoder: Encoder, recipe: Recipe, seed: int) -> tuple[list[Row], list[Row]]:
    """Return the rows to train on and the source-language rows that select."""
    if "train" not in task.splits or task.source not in task["train"]:
        raise XltError(f'The task "{task.name}" has no train.{task.source} to train on.')
    rows = encode_rows(encoder.tokenizer, task["train"][task.source], task.text_columns, recipe.max_length)
    if recipe.select == "last":
        return rows, []
    # Where the targets are scored on dev, their dev translates the source's: that must not select.
    if task.evaluation_split != "dev" and task.source in task.splits.get("dev", {}):
        return rows, encode_rows(encoder.tokenizer, task["dev"][task.source], task.text_columns, recipe.max_length)
    order = np.random.default_rng([seed, 0xDE7]).permutation(len(rows))
    cut = max(1, len(rows) // 10)
    return [rows[i] for i in sorted(order[cut:])], [rows[i] for i in sorted(order[:cut])]


def _virtual_rows(rows: list[Row], encoder: Encoder, maker: Maker | None, seed: int) -> list[Row]:
    """Return the virtual copies of held-out source rows: a dev set in no real language, every eligible word swapped.

    Made of source text and the encoder alone. It is scored beside the source rows and selects nothing by itself.
    """
    if maker is None or not rows:
        return []
    full = replace(maker, rate=1.0) if is_dataclass(maker) and hasattr(maker, "rate") else maker
    made = [full.virtual(row, encoder.tokenizer, row_generator(seed, 0, 0, row.id)) for row in rows]
    if any(copy.noise is not None for copy in made):
        return []
    return [
        replace(row, input_ids=copy.input_ids, token_type_ids=copy.token_type_ids)
        for row, copy in zip(rows, made, strict=True)
    ]


def _optimizer(model: nn.Module, recipe: Recipe, steps: int) -> tuple[Any, Any]:
    from transformers import get_linear_schedule_with_warmup

    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, eps=1e-8, fused=True)
    return optimizer, get_linear_schedule_with_warmup(optimizer, round(recipe.warmup * steps), steps)


def _grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Any,
    scheduler: Any,
    objective: Objective,
    batches: list[Batch],
    recipe: Recipe,
    step: int,
) -> dict[str, Any]:
    """Take one optimiser step and return its row of the history."""
    sums: dict[str, float] = {}
    row: dict[str, Any] = {"lr": scheduler.get_last_lr()[0]}
    device, processes = accelerator.device, accelerator.num_processes
    for batch in batches:
        own, rows = process_part(batch, objective.streams, accelerator.process_index, processes)
        for part, share in slices(own, objective.streams, recipe.max_tokens):
            counts = rows * share / len(batches)  # what this part counts in the step
            with _memory_told(recipe, part):
                moved = {key: value.to(device) for key, value in part.items()}
                with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                    terms = objective(model, moved)  # type: ignore[arg-type]
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + value.item() * counts
                if recipe.share_every and step % recipe.share_every == 0 and "shares" not in row:
                    norms = _over_processes(accelerator, gradient_norms(model, terms), "mean")
                    objective.adapt(norms)
                    row["shares"] = gradient_shares(norms, objective.current_weights())
                accelerator.backward(objective.total(terms) * counts)
    sums = _over_processes(accelerator, sums, "sum")
    if processes > 1:
        for weight in model.parameters():
            if weight.grad is not None:
                weight.grad = accelerator.reduce(weight.grad, "sum")
    for name, number in sums.items():
        if not math.isfinite(number):
            raise _not_finite(f'the term "{name}"', number, step)
    norm = float(accelerator.clip_grad_norm_(model.parameters(), recipe.max_grad_norm))
    if not math.isfinite(norm):
        raise _not_finite("the gradient norm", norm, step)
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    weights = objective.current_weights()
    row["loss"] = sum(weights[name] * value for name, value in sums.items())
    row |= {"weights": dict(weights)} if weights != objective.weights else {}
    return row | {"terms": sums, "grad_norm": norm}


@contextmanager
def _memory_told(recipe: Recipe, batch: Batch) -> Iterator[None]:
    """Turn running out of memory into advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        cells = batch["input_ids"].numel()
        raise XltError(
            f"Out of memory at {cells:,} padded tokens in one forward. Try max_tokens={max(64, cells // 2)}: the same "
            f"steps in less memory. Or batch_size={max(1, recipe.batch_size // 2)} with "
            f"accumulate={2 * recipe.accumulate}."
        ) from error


def _over_processes(accelerator: Accelerator, numbers: dict[str, float], how: str) -> dict[str, float]:
    """Return the sums, or means, of numbers over all processes; a single process's are left to the bit."""
    if accelerator.num_processes == 1:
        return numbers
    own = torch.tensor(list(numbers.values()), dtype=torch.float32, device=accelerator.device)
    return dict(zip(numbers, accelerator.reduce(own, how).tolist(), strict=True))


def _not_finite(what: str, value: float, step: int) -> XltError:
    return XltError(
        f"Step {step + 1}: {what} became {value}; training stopped before the weights were touched. The last "
        "checkpoint, if any, is good. Try a lower learning rate, or a bounded push such as push='hinge'."
    )


def gradient_norms(model: nn.Module, terms: dict[str, Tensor]) -> dict[str, float]:
    """Return the norm of each unweighted term's gradient ``g_i``, over all parameters.

    The terms come from one forward, so all norms are of the same batch under the same dropout masks.
    """
    parameters = [weight for weight in model.parameters() if weight.requires_grad]
    norms = {}
    for name, value in terms.items():
        gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        norms[name] = math.sqrt(sum(float(g.square().sum()) for g in gradients if g is not None))
        del gradients  # as large as the model; else it would live through the next term's backward
    return norms


def gradient_shares(norms: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    """Return each weighted term's share of the gradient, ``||w_i g_i|| / sum_j ||w_j g_j||``."""
    weighted = {name: abs(weights[name]) * norm for name, norm in norms.items()}
    whole = sum(weighted.values()) or 1.0
    return {name: norm / whole for name, norm in weighted.items()}


def _warn_inert(state: _State) -> None:
    """Say once for each term that its gradient stayed under one per cent for a whole epoch."""
    rows = [row["shares"] for row in state.history if "shares" in row and math.ceil(row["epoch"]) == state.epoch + 1]
    for term in rows[0] if rows else ():
        if term not in state.warned and max(row[term] for row in rows) < INERT:
            state.warned.append(term)
            warnings.warn(
                f'The term "{term}" gave under 1 % of the gradient in all of epoch {state.epoch + 1}: '
                "at its weight it is almost inert.",
                stacklevel=3,
            )


def _select(
    model: nn.Module,
    encoder: Encoder,
    task: ParallelTask,
    recipe: Recipe,
    state: _State,
    held_out: list[Row],
    virtual: list[Row],
    oracle: bool,
    best_weights: dict[str, Tensor] | None,
) -> dict[str, Tensor] | None:
    """Score the epoch on source-language data; remember its weights if it is the best so far."""
    row: dict[str, Any] = {"step": state.step}
    state.epochs.append(row)

    def accuracy_of(rows: list[Row]) -> float:
        predicted = predict(model, rows, int(encoder.tokenizer.pad_token_id or 0))  # type: ignore[arg-type]
        return float(np.mean(predicted == np.array([row.label for row in rows])))

    if virtual:
        row["virtual"] = accuracy_of(virtual)
    if oracle:
        scores: Scores = evaluate(model, encoder.tokenizer, task, max_length=recipe.max_length)  # type: ignore[arg-type]
        row |= {"target_mean": scores.target_mean, "targets": scores.accuracy}
        if state.oracle is None or scores.target_mean > state.oracle["target_mean"]:
            state.oracle = {"rule": "oracle: chosen on the target languages", "step": state.step, **scores.as_dict()}
    if recipe.select == "last":
        return None
    row["source"] = accuracy = accuracy_of(held_out)
    if state.best is not None and accuracy <= state.best["accuracy"]:
        return best_weights
    state.best = {"rule": "source", "step": state.step, "accuracy": accuracy, "n": len(held_out)}
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _claim(accelerator: Accelerator, folder: Path, settings: dict[str, Any], resume: bool) -> None:
    """Make the run's folder, or see that it holds the run that is to be resumed; what one process finds, all say."""
    from accelerate.utils import broadcast_object_list

    told: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            _claim_alone(folder, settings, resume)
        except XltError as error:
            told = [str(error)]
    if broadcast_object_list(told)[0] is not None:
        raise XltError(told[0])


def _claim_alone(folder: Path, settings: dict[str, Any], resume: bool) -> None:
    path = folder / "settings.json"
    plain = json.loads(json.dumps(settings))
    if path.exists() and not resume:
        raise XltError(f"{folder} already holds a run. Pass resume=True to continue it, or choose another folder.")
    if path.exists() and (held := json.loads(path.read_text(encoding="utf-8"))) != plain:
        differing = ", ".join(key for key in plain if held.get(key) != plain[key])
        raise XltError(f"{folder} holds a run with another {differing}. Choose another folder, or delete this one.")
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    if not path.exists():
        write_whole(path, json.dumps(plain, indent=1))


def _checkpoint(accelerator: Accelerator, folder: Path, state: _State, best_weights: dict[str, Tensor] | None) -> None:
    from accelerate.utils import broadcast_object_list
    from safetensors.torch import save_file

    target, main = folder / f"step-{state.step:06d}", accelerator.is_main_process
    if broadcast_object_list([is_whole(target) if main else None])[0]:
        return
    if main:
        shutil.rmtree(target, ignore_errors=True)
    with whole_folder(target) if main else nullcontext() as made:
        work = Path(broadcast_object_list([str(made)])[0])
        accelerator.save_state(str(work))  # each process saves the state of its random numbers
        accelerator.wait_for_everyone()
        if not main:
            return
        (work / "state.json").write_text(json.dumps(asdict(state)), encoding="utf-8")
        if best_weights is not None:
            save_file({name: value.contiguous() for name, value in best_weights.items()}, work / "best.safetensors")
    for old in sorted(folder.glob("step-*"))[:-2]:
        shutil.rmtree(old, ignore_errors=True)


def _restore(accelerator: Accelerator, folder: Path) -> tuple[_State, dict[str, Tensor] | None]:
    """Load the newest whole checkpoint and its best weights; a run that has none starts from the beginning."""
    from safetensors.torch import load_file

    newest = next((path for path in sorted(folder.glob("step-*"), reverse=True) if is_whole(path)), None)
    if newest is None:
        return _State(), None
    try:
        accelerator.load_state(str(newest))  # pickles among it are read as plain values (torch's weights_only)
        state = _State(**json.loads((newest / "state.json").read_text(encoding="utf-8")))
        return state, load_file(newest / "best.safetensors") if state.best is not None else None
    except (UnpicklingError, TypeError, KeyError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise XltError(
            f"{newest} does not hold a checkpoint of this run ({reason}). Delete that folder: the run goes on from the "
            "checkpoint before it, or starts again."
        ) from error


def _bar(total: int, done: int, name: str, progress: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, initial=done, desc=name, unit="step", disable=not progress)
