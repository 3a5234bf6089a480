"""Vanilla fine-tuning by the package's loop and by transformers' own ``Trainer``, on the same batches."""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import PrinterCallback, Trainer, TrainingArguments

from xlt_tutorial.batching import TwoStreamBatches, encode_rows
from xlt_tutorial.encoders import Classifier, Encoder, load_encoder
from xlt_tutorial.objectives import Vanilla
from xlt_tutorial.statistics import markdown_table
from xlt_tutorial.system import release_memory
from xlt_tutorial.tasks import ParallelTask, load_task
from xlt_tutorial.training import Recipe, train


class WithLoss(nn.Module):
    """The package's classifier as ``Trainer`` wants it: a model that returns its loss."""

    def __init__(self, encoder: Encoder, n_labels: int) -> None:
        super().__init__()
        self.classifier = Classifier(copy.deepcopy(encoder.model).train(), n_labels)

    def forward(self, labels: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        logits = self.classifier(**inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Batches(IterableDataset):
    """The batches that ``train`` makes, ready for ``Trainer``."""

    def __init__(self, task: ParallelTask, encoder: Encoder, recipe: Recipe) -> None:
        rows = encode_rows(encoder.tokenizer, task["train"][task.source], task.text_columns, recipe.max_length)
        self.made, self.epoch = TwoStreamBatches(rows, encoder.tokenizer, recipe.batch_size, 0), 0

    def __len__(self) -> int:
        return len(self.made)

    def __iter__(self) -> Any:
        yield from self.made.epoch(self.epoch)
        self.epoch += 1


class OnBatches(Trainer):
    """``Trainer`` fed with whole batches."""

    def get_train_dataloader(self) -> DataLoader:
        return DataLoader(self.train_dataset, batch_size=None)


def run(small: bool = False) -> dict[str, Any]:
    """Time both in turns; ``small`` is for tests: two blocks and one round."""
    task = load_task("emoji")
    encoder = load_encoder(trim_to=task)
    if small:
        encoder.model.encoder.layer = encoder.model.encoder.layer[:2]
        encoder.model.config.num_hidden_layers = 2
    recipe = Recipe(epochs=1 if small else 2, share_every=0)
    seconds: dict[str, list[float]] = {"xlt_tutorial": [], "Trainer": []}
    losses: dict[str, float] = {}
    for turn in range(2 if small else 4):
        release_memory()
        run = train(task, encoder, Vanilla(1), recipe=recipe, progress=False)
        losses["xlt_tutorial"] = statistics.fmean(row["loss"] for row in run.history)
        steps, took = len(run.history), {"xlt_tutorial": run.seconds}
        del run
        release_memory()
        losses["Trainer"], took["Trainer"] = _by_trainer(task, encoder, recipe)
        if turn:  # the first round warms up
            for name, value in took.items():
                seconds[name].append(value)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {"steps": steps, "seconds": median, "all": seconds, "mean_loss": losses}


def _by_trainer(task: ParallelTask, encoder: Encoder, recipe: Recipe) -> tuple[float, float]:
    """Return the mean loss and the seconds of the loop."""
    torch.manual_seed(0)
    batches = Batches(task, encoder, recipe)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, num_train_epochs=recipe.epochs, learning_rate=recipe.learning_rate, report_to=[],
            weight_decay=recipe.weight_decay, warmup_steps=recipe.warmup, max_grad_norm=recipe.max_grad_norm,
            save_strategy="no", logging_steps=1, disable_tqdm=True, lr_scheduler_type="linear", use_cpu=True,
            optim="adamw_torch_fused", remove_unused_columns=False, log_level="error",
        )  # fmt: skip
        trainer = OnBatches(WithLoss(encoder, len(task.labels)), arguments, train_dataset=batches)
        trainer.remove_callback(PrinterCallback)
        start = time.perf_counter()
        trainer.train()
        took = time.perf_counter() - start
    found = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return statistics.fmean(found), took


def table(results: dict[str, Any]) -> str:
    """Return the Markdown table and what it says."""
    seconds, losses = results["seconds"], results["mean_loss"]
    ratio = seconds["xlt_tutorial"] / seconds["Trainer"]
    lines = [
        [name, f"{value:.1f}", f"{value / seconds['Trainer']:.2f} x", f"{losses[name]:.3f}"]
        for name, value in seconds.items()
    ]
    return (
        'e5-small with its vocabulary trimmed, task "emoji", vanilla, float32, fused AdamW, '
        f"{results['steps']} steps on the same batches in the same order; both log every step.\n\n"
        + markdown_table(["loop", "seconds", "against Trainer", "mean loss"], lines)
        + f"\n\nThe package's loop takes {ratio:.2f} times as long as `Trainer`."
    )
