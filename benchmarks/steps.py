"""One training step: EAR against vanilla, and against EAR written down straight (``straightforward``)."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from benchmarks import lengths, straightforward
from benchmarks.measure import medians
from xlt_tutorial.batching import Batch, Row, TwoStreamBatches
from xlt_tutorial.encoders import Classifier, Encoder, load_encoder
from xlt_tutorial.objectives import EAR, Objective, Vanilla
from xlt_tutorial.perturb import NeighbourSwap, Virtual
from xlt_tutorial.statistics import markdown_table
from xlt_tutorial.tasks import load_task
from xlt_tutorial.training import Recipe, _optimizer, _step, has_bfloat16

MBERT = {"vocab_size": 119547, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
KINDS = {  # by the names of torch's operations
    "matrix products": ("mm", "addmm", "bmm", "linear"),
    "attention": ("scaled_dot_product", "softmax"),
    "dropout": ("dropout", "bernoulli"),
    "GELU": ("gelu",),
    "LayerNorm": ("layer_norm",),
    "embedding": ("embedding", "index_put"),
    "AdamW and clipping": ("adam", "norm", "foreach"),
}
SMALL = {
    "vocab_size": 999,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_hidden_layers": 6,
}
RATE = "rate of a step against that of a product"
SLICE = 1024  # padded tokens of a slice, where batches are cut


class RandomSwap:
    """A maker for random weights: a third of the ids become others, as many tokens as before."""

    name = "random"

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def virtual(self, row: Row, tokenizer: object, rng: np.random.Generator) -> Virtual:
        ids = np.array(row.input_ids)
        ids = np.where(rng.random(len(ids)) < 0.3, rng.integers(5, self.vocabulary, len(ids)), ids)
        return Virtual(tuple(ids.tolist()), None, words=0, swaps=())

    def settings(self) -> dict[str, Any]:
        return {"name": self.name}


def run(small: bool = False) -> dict[str, Any]:
    """Measure at mBERT's size on XNLI and PAWS-X, and at e5-small's on the task "emoji".

    ``small`` is for tests: a model of six narrow layers, and the task "emoji" alone.
    """
    full = load_encoder()
    if small:
        return {"emoji": _compare(Rig.random(full, SMALL, "emoji", width=32, pick=1), rounds=1)}
    found = {name: _compare(Rig.random(full, MBERT, name, width=128), rounds=3) for name in ("xnli", "pawsx")}
    return found | {"emoji": _compare(Rig.emoji(full), rounds=5)}


class Rig:
    """A classifier with the two optimisers, and typical batches of a data set's lengths.

    Three batches stand for an epoch: of its batches in order of width, the middles of three equal parts.
    """

    def __init__(
        self, model: Classifier, rows: list[Row], encoder: Encoder, maker: Any, width: int, pick: int = 3
    ) -> None:
        self.model, self.rows, self.maker, self.width, self.tokenizer = model, rows, maker, width, encoder.tokenizer
        self.recipe, self.accelerator = Recipe(share_every=0, max_length=width), Accelerator()
        self.optimizer, self.scheduler = _optimizer(model, self.recipe, 10**6)
        self.plain = torch.optim.AdamW(model.parameters(), lr=1e-6)
        self.numbers = _typical(TwoStreamBatches(rows, self.tokenizer, 32, 0, 1), pick)
        self.has_bfloat16 = has_bfloat16(self.accelerator.device)

    @classmethod
    def random(cls, full: Encoder, shape: dict[str, int], name: str, width: int, pick: int = 3) -> Rig:
        """Random weights of a shape, rows of a data set's lengths."""
        torch.manual_seed(0)
        encoder = BertModel(BertConfig(**shape, max_position_embeddings=512), add_pooling_layer=False)
        rows = lengths.rows(name, full, shape["vocab_size"], width)
        model = Classifier(encoder, 1 + max(row.label for row in rows)).train()
        return cls(model, rows, full, RandomSwap(shape["vocab_size"]), width, pick)

    @classmethod
    def emoji(cls, full: Encoder) -> Rig:
        """The real encoder with the real task, its vocabulary trimmed, and the real swap."""
        task = load_task("emoji")
        swap = NeighbourSwap.fit(full, task.texts("train", "en"))
        encoder = load_encoder(trim_to=task, keep=swap.pieces)
        rows = lengths.rows("emoji", encoder, 10**9)
        return cls(Classifier(encoder.model, len(task.labels)).train(), rows, encoder, swap, 32)

    def batches(self, streams: int, pad_to: int | None = None) -> list[Batch]:
        """Return the typical batches, narrowest first in the epoch's order."""
        maker = self.maker if streams == 2 else None
        made = TwoStreamBatches(self.rows, self.tokenizer, 32, 0, streams, maker, 1, pad_to)
        return [batch for i, batch in enumerate(made.epoch(0)) if i in self.numbers]

    def package(self, objective: Objective, **change: Any) -> Callable[[Batch], object]:
        """Return the package's own step, with changes to the recipe."""
        own = replace(self.recipe, **change)
        return lambda batch: _step(
            self.accelerator, self.model, self.optimizer, self.scheduler, objective, [batch], own, 1
        )

    def straight(self, batch: Batch) -> None:
        """Take the straightforward step."""
        straightforward.step(self.model, self.plain, batch)

    def warm_up(self, batch: Batch, padded: Batch) -> None:
        """Give both optimisers their state, so that it is there before anything is measured."""
        self.package(EAR())(batch)
        self.straight(padded)


def _compare(rig: Rig, rounds: int) -> dict[str, Any]:
    model, package = rig.model, rig.package
    one, two, padded = rig.batches(1), rig.batches(2), rig.batches(2, rig.width)[:1]  # all padded ones cost the same
    variants = {
        "vanilla": (package(Vanilla(1)), one),
        "EAR": (package(EAR()), two),
        "EAR in slices": (package(EAR(), max_tokens=SLICE), two),
        "EAR published": (package(EAR.published(width=rig.width)), padded),
        "straightforward": (rig.straight, padded),
    }
    if rig.has_bfloat16:
        variants["vanilla, bfloat16"] = (package(Vanilla(1), precision="bfloat16"), one)
        variants["EAR, bfloat16"] = (package(EAR(), precision="bfloat16"), two)
        variants["EAR in slices, bfloat16"] = (package(EAR(), precision="bfloat16", max_tokens=SLICE), two)
    rig.warm_up(two[0], padded[0])
    calls = {
        f"{variant}|{i}": (lambda call=call, batch=batch: call(batch))
        for variant, (call, own) in variants.items()
        for i, batch in enumerate(own)
    }
    tokens = max(batch["input_ids"].numel() for batch in two)
    calls["a product"], of_product = _product(model, tokens)
    found = medians(calls, rounds, warm_up=0)
    table = {}
    for variant, (_, own) in variants.items():
        parts = [found[f"{variant}|{i}"] for i in range(len(own))]
        table[variant] = {
            "seconds": statistics.fmean(part["seconds"] for part in parts),
            "peak_mb": max(part["peak_mb"] for part in parts),
            "all": [part["all"] for part in parts],
        }
    return {
        "lengths": lengths.summary(rig.rows),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "widths": [batch["input_ids"].shape[1] for batch in two],
        "steps": table,
        "profile": _profile(package(EAR()), two[-1]),
        "matrix_products": {
            "gflops_of_a_product": of_product / found["a product"]["seconds"] / 1e9,
            "gflops_of_a_step": _operations(package(EAR()), two) / table["EAR"]["seconds"] / 1e9,
        },
    }


def _typical(batches: TwoStreamBatches, pick: int) -> list[int]:
    widths = [batch["input_ids"].shape[1] for batch in batches.epoch(0) if len(batch["labels"]) == 32]
    order = np.argsort(widths, kind="stable")
    return [int(order[(2 * i + 1) * len(order) // (2 * pick)]) for i in range(pick)]


def _profile(call: Callable[[Batch], object], batch: Batch) -> dict[str, float]:
    """Return the share of a step's time that each kind of operation takes, the largest first."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        call(batch)
    shares: dict[str, float] = {}
    for event in profiler.key_averages():
        kind = next((kind for kind, names in KINDS.items() if any(name in event.key for name in names)), "the rest")
        shares[kind] = shares.get(kind, 0.0) + event.self_cpu_time_total
    total = sum(shares.values())
    return {kind: share / total for kind, share in sorted(shares.items(), key=lambda item: -item[1])}


def _product(model: Classifier, tokens: int, times: int = 20) -> tuple[Callable[[], object], float]:
    """Return a call of large products of the model's own shape, and their floating-point operations."""
    config = model.encoder.config
    left = torch.randn(tokens, config.hidden_size)
    right = torch.randn(config.hidden_size, config.intermediate_size)
    out = left @ right

    def call() -> None:
        for _ in range(times):
            torch.mm(left, right, out=out)

    return call, 2.0 * times * left.numel() * config.intermediate_size


def _operations(call: Callable[[Batch], object], batches: list[Batch]) -> float:
    """Return the floating-point operations of a step, on the average of the batches."""
    counted = []
    for batch in batches:
        with FlopCounterMode(display=False) as counter:
            call(batch)
        counted.append(counter.get_total_flops())
    return statistics.fmean(counted)


def _share(found: dict[str, Any]) -> float:
    """Return the part of the machine's rate of matrix products that a step of EAR reaches."""
    rates = found["matrix_products"]
    return float(rates["gflops_of_a_step"] / rates["gflops_of_a_product"])


def _goals(found: dict[str, Any]) -> str:
    """Return what was aimed at on XNLI's lengths and what was reached, and the limit where it was not."""
    steps, plain = found["steps"], found["steps"]["straightforward"]
    vanilla, ear = steps["vanilla"]["seconds"], steps["EAR"]["seconds"]
    cut = steps["EAR in slices"]["peak_mb"]
    goals = [
        ("EAR in float32 against vanilla, time", ear / vanilla, 2.1, "x", True),
        ("straightforward against EAR in float32, time", plain["seconds"] / ear, 3.0, "x", False),
        (
            "peak of memory of EAR in slices in float32, against straightforward's",
            cut / plain["peak_mb"],
            1 / 3,
            "",
            True,
        ),
        (RATE, _share(found), 0.8, "", False),
    ]
    said = ""
    if "EAR, bfloat16" in steps:
        short = steps["EAR, bfloat16"]["seconds"]
        goals.insert(2, ("straightforward against EAR in bfloat16, time", plain["seconds"] / short, 6.0, "x", False))
        goals.insert(3, ("EAR in bfloat16 against vanilla in float32, time", short / vanilla, 1.0, "x", True))
        products = found["profile"]["matrix products"]
        most = 1 / (1 - products / 2)
        said = (
            f"\n\nWhy bfloat16 gains what it does: {products:.0%} of the step in float32 is matrix products. A "
            "processor with AVX512-BF16, and without matrix units, does them about twice as fast; were that all that "
            f"changed, the step would be {most:.2f} times as fast. Reached is {ear / short:.2f} times, as other "
            "operations move half the bytes too. To cost no more than vanilla in float32, it would have to be "
            f"{ear / vanilla:.2f} times: EAR passes two streams."
        )
    lines = []
    for what, value, wanted, unit, below in goals:
        met = value <= wanted if below else value >= wanted
        sign, number = ("at most" if below else "at least"), (lambda v, u=unit: f"{v:.2f} {u}" if u else f"{v:.0%}")
        # More than the whole rate of a product says that the product was timed in a slow moment.
        judged = "no verdict" if what == RATE and value > 1 else "met" if met else "missed"
        lines.append([what, f"{sign} {number(wanted)}", number(value), judged])
    return markdown_table(["goal", "wanted", "reached", ""], lines) + said


def table(results: dict[str, Any]) -> str:
    """Return the Markdown tables and what they say."""
    titles = {
        "xnli": "mBERT's size, random weights, lengths of XNLI",
        "pawsx": "mBERT's size, random weights, lengths of PAWS-X",
        "emoji": 'e5-small, vocabulary trimmed, the task "emoji"',
    }
    parts = [
        "Batch 32. A step is forward, backward, clipping and AdamW; memory is the peak above weights and optimiser, "
        "gradients included. *Straightforward* is EAR written down as the formulas stand: two forwards, eager "
        "attention, every map kept, padded to the full length, float32. *In slices* caps the padded tokens of one "
        f"forward at {SLICE:,} (`Recipe(max_tokens={SLICE})`): the same step, in less memory. *EAR published* pads as "
        "the paper's code does; the others pad to the longest row of a batch of like lengths. On a processor, torch's "
        "fused attention has no dropout: with dropout it forms each layer's map inside itself and keeps it for the "
        "backward pass, so what the package spares there is padding and eager operations; slices bound the rest."
    ]
    for name, title in titles.items():
        if name not in results:
            continue
        found, steps = results[name], results[name]["steps"]
        vanilla, plain = steps["vanilla"]["seconds"], steps["straightforward"]
        words = found["lengths"]
        heads = ["step", "seconds", "against vanilla", "straightforward takes", "peak, MB", "of straightforward's peak"]
        lines = [
            [variant, f"{row['seconds']:.3g}", f"{row['seconds'] / vanilla:.2f} x",
             f"{plain['seconds'] / row['seconds']:.1f} x as long", f"{row['peak_mb']:,.0f}",
             f"{row['peak_mb'] / plain['peak_mb']:.0%}"]
            for variant, row in steps.items()
        ]  # fmt: skip
        products = found["matrix_products"]
        parts += [
            f"### {title}",
            f"{found['parameters'] / 1e6:.0f} M parameters; {words['rows']:,} rows of {words['mean']} tokens on average"
            f" (95 % have {words['p95']:.0f} or fewer).",
            markdown_table(heads, lines),
            f"A step of EAR reaches {products['gflops_of_a_step']:.0f} of the {products['gflops_of_a_product']:.0f} "
            f"GFLOP/s of large matrix products, timed in turns with the steps: {_share(found):.0%}. "
            "Where its time goes: "
            + ", ".join(f"{kind} {share:.0%}" for kind, share in found["profile"].items() if share >= 0.01)
            + ".",
        ]
        if name == "xnli":
            parts.append(_goals(found))
    return "\n\n".join(parts)
