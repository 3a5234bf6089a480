"""Training objectives: a model and a batch in, named loss terms out.

An objective's ``weights`` hold what each term counts; ``total`` adds them up. All of them read the same stacked batch
(``batching``) in one forward, so they see the same data in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from xlt_tutorial.batching import Batch
from xlt_tutorial.encoders import Classifier
from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.losses import PULL_FORMS, PUSH_FORMS, attention_pull, embedding_push
from xlt_tutorial.taps import Captured, embedding_noise, taps

SUBSETS = ("E", "A", "R", "EA", "ER", "AR")
METHODS = ("vanilla", "ear", "ear-normalised", "rsda", "rsrp", "adversarial", "rdrop")


class Objective:
    """What the training loop needs to know of a method.

    Attributes:
        name: The method's name in results.
        weights: Weight of each term.
        streams: 1 for the original sentences alone, 2 for the stacked streams.
        virtual: Whether the second stream is made by a maker (else it repeats the first).
        copies: Times that an epoch visits each sentence, every time with another virtual copy where there are such.
        pad_to: Fixed width of every batch, or ``None``.
        forwards: Forwards of one stream's sentences in a step: what a step costs, beside its one backward of the loss.
        adaptive: Whether its weights follow the gradients, so that these must be measured (``Recipe.share_every``).
    """

    name: str
    weights: dict[str, float]
    streams = 1
    virtual = False
    copies: int
    pad_to: int | None = None
    adaptive = False

    def __init__(self, copies: int = 1) -> None:
        if copies < 1:
            raise XltError(f"copies is {copies}; it must be 1 or more.")
        self.copies = copies

    def __call__(self, model: Classifier, batch: Batch) -> dict[str, Tensor]:
        """Return the unweighted terms of one batch, each a scalar."""
        raise NotImplementedError

    @property
    def forwards(self) -> int:
        """Forwards of one stream's sentences in a step."""
        return self.streams

    def check(self, encoder: nn.Module) -> None:
        """Raise an ``XltError`` where this encoder cannot give what the terms read; nothing is computed."""

    def adapt(self, norms: Mapping[str, float]) -> None:
        """Take note of the norm of each unweighted term's gradient, just measured; used where ``adaptive``."""

    def state(self) -> dict[str, float]:
        """Return what ``adapt`` has changed, for a checkpoint."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Take back what ``state`` returned."""

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms."""
        weights = self.current_weights()
        return sum((weights[name] * value for name, value in terms.items()), start=torch.zeros(()))

    def current_weights(self) -> dict[str, float]:
        """Return what each term counts now: ``weights``, but where ``adapt`` has changed them."""
        return self.weights

    def settings(self) -> dict[str, Any]:
        """Return what to record of this objective in a result."""
        return {"name": self.name} | {k: v for k, v in vars(self).items() if k != "name" and not k.startswith("_")}


class Vanilla(Objective):
    """Plain fine-tuning: ``CE(f(x), y)``, or the sum over two dropout passes of the same sentences.

    Args:
        passes: 1, or 2 for the compute-matched control of two-stream methods.
        copies: Visits of a sentence in an epoch.

    Relations:
        ``Vanilla(passes=2)`` does the work of ``EAR`` (forwards, backward, steps) without any of its terms; it is EAR
        with all three of them switched off.
    """

    def __init__(self, passes: int = 1, copies: int = 1) -> None:
        super().__init__(copies)
        if passes not in (1, 2):
            raise unknown("number of passes", passes, (1, 2))  # type: ignore[arg-type]
        self.name = "vanilla" if passes == 1 else "vanilla-matched"
        self.streams = passes
        self.weights = {"ce": 1.0} if passes == 1 else {"ce": 1.0, "second_pass": 1.0}

    def __call__(self, model: Classifier, batch: Batch) -> dict[str, Tensor]:
        logits = model(**_inputs(batch)).chunk(self.streams)
        return {term: cross_entropy(part, batch["labels"]) for term, part in zip(self.weights, logits, strict=True)}


class EAR(Objective):
    """Embedding-Push, Attention-Pull and Robust targets over the stacked original and virtual streams.

    ``loss = CE(f(x), y) + CE(f(x'), y) + alpha * push + beta * pull``, any of the last three switched off by
    ``robust``, ``push`` and ``pull``. With all three off it is ``Vanilla(passes=2)``: still one forward of two streams.

    Args:
        push: Form of the embedding push (``losses.PUSH_FORMS``), ``True`` for the published one, ``False`` for none.
        pull: Form of the attention pull (``losses.PULL_FORMS``), likewise.
        robust: Whether the virtual sentence must be classified too.
        alpha: Weight of the push.
        beta: Weight of the pull.
        layer: 0-based layer of the pull; 5 is the sixth block.
        copies: Virtual copies of a sentence in an epoch.
        margin: Of the hinge push.
        pad_to: Fixed width, which the published pull depends on; ``None`` pads to the longest row.
        consistency: Weight of ``(KL(p || p') + KL(p' || p)) / 2`` between the predictions for x and x'; 0 for none, as
            published. It is ``RDrop``'s term, over two sentences instead of two dropout masks.

    References:
        Ding et al., "A Simple and Effective Method to Improve Zero-Shot Cross-Lingual Transfer Learning", COLING 2022.

    Example:
        >>> objective = EAR.published()
        >>> terms = objective(model, batch)  # {"ce": .., "robust": .., "push": .., "pull": ..}
        >>> objective.total(terms).backward()
    """

    def __init__(
        self,
        push: str | bool = "published",
        pull: str | bool = "published",
        robust: bool = True,
        alpha: float = 0.1,
        beta: float = 1.0,
        layer: int = 5,
        copies: int = 1,
        margin: float = 1.0,
        pad_to: int | None = None,
        consistency: float = 0.0,
    ) -> None:
        super().__init__(copies)
        if consistency < 0:
            raise XltError(f"consistency is {consistency}; it must be 0 (none) or more.")
        self.push, self.pull = _form("push", push, PUSH_FORMS), _form("pull", pull, PULL_FORMS)
        self.robust, self.layer, self.margin, self.pad_to = robust, layer, margin, pad_to
        self.streams = 2
        self.consistency = consistency
        self.virtual = bool(self.push or self.pull or robust or consistency)
        weights = {"robust": 1.0 if robust else None, "push": alpha if self.push else None}
        weights |= {"pull": beta if self.pull else None, "kl": consistency or None}
        self.weights = {"ce": 1.0} | {term: weight for term, weight in weights.items() if weight is not None}
        if not self.virtual:
            self.weights["second_pass"] = 1.0
        letters = [letter for letter, on in zip("EAR", (self.push, self.pull, robust), strict=True) if on]
        named = "ear" if len(letters) == 3 else f"ear-{''.join(letters)}"
        self.name = (named if letters else "vanilla-matched") + ("-kl" if consistency else "")

    @classmethod
    def published(cls, copies: int = 1, width: int | None = 128) -> EAR:
        """Return the published setting: alpha 0.1, beta 1, layer 5, batches always padded to ``width`` tokens.

        ``copies`` was 3 on XNLI. The padding is part of the method here, because the published pull averages over it.
        """
        return cls(copies=copies, pad_to=width)

    def check(self, encoder: nn.Module) -> None:
        """Raise an ``XltError`` where the encoder lacks the pulled layer, blocks to read, or attention."""
        with self._taps(encoder) as captured, torch.no_grad():
            if not self.pull or getattr(encoder, "_supports_sdpa", False):
                return
            ids = torch.ones(1, 2, dtype=torch.long, device=next(encoder.parameters()).device)
            encoder(ids, torch.ones_like(ids))
        if self.layer not in captured.attention:
            raise XltError(
                f"{type(encoder).__name__} hands out no attention map of layer {self.layer}, so the attention pull "
                "cannot serve it. Choose another encoder, or leave the pull out: pull=False, or the method ear-ER."
            )

    def __call__(self, model: Classifier, batch: Batch) -> dict[str, Tensor]:
        with self._taps(model.encoder) as captured:
            with embedding_noise(model.encoder, batch.get("noise")):
                original, virtual = model(**_inputs(batch)).chunk(2)
        terms = {"ce": cross_entropy(original, batch["labels"])}
        if self.robust:
            terms["robust"] = cross_entropy(virtual, batch["labels"])
        elif not self.virtual:
            terms["second_pass"] = cross_entropy(virtual, batch["labels"])
        mask, virtual_mask = batch["attention_mask"].chunk(2)
        if self.push:
            assert captured.embeddings is not None
            first, second = captured.embeddings.chunk(2)
            terms["push"] = embedding_push(first, second, mask, virtual_mask, self.push, self.margin)
        if self.pull:
            attention = captured.attention[self.layer]
            first, second = attention.before_dropout.chunk(2)
            if self.pull == "published":
                first, second = attention.after_dropout.chunk(2)
            terms["pull"] = attention_pull(first, second, mask, virtual_mask, self.pull)
        if self.consistency:
            terms["kl"] = _divergence(original, virtual)
        return terms

    def _taps(self, encoder: nn.Module) -> AbstractContextManager[Captured]:
        return taps(encoder, [self.layer] if self.pull else [], embeddings=bool(self.push))


class NormalisedEAR(EAR):
    """EAR whose push and pull have weights that give them a set share of the gradient, instead of weights set by hand.

    Whenever the gradients are measured (``Recipe.share_every``), with ``g_i`` the norms of the unweighted terms'
    gradients, averaged over measurements (decay 0.9), ``R`` the sum of the weighted norms of the cross-entropies and
    ``s_i`` the shares asked for: ``w_i = s_i / (1 - sum_j s_j) * R / g_i``.

    Args:
        shares: Share of the gradient of ``push`` and ``pull``, together below 1; a term left out is switched off.
        limit: Greatest weight, so that a term whose gradient vanishes is not blown up.
        options: As for ``EAR``, but for ``alpha`` and ``beta``, which are the weights until the first measurement.

    Cost: that of ``EAR``, and one backward more per term at each measurement.

    Relations:
        ``EAR`` with the weights that this one arrives at gives the same steps. This form is the course's own, because
        at the published weights push and pull are almost inert.
    """

    adaptive = True

    def __init__(self, shares: Mapping[str, float] | None = None, limit: float = 1e6, **options: Any) -> None:
        self.shares = dict(shares if shares is not None else {"push": 0.1, "pull": 0.1})
        if odd := sorted(set(self.shares) - {"push", "pull"}):
            raise unknown("term", odd[0], ("push", "pull"))
        if not all(share > 0 for share in self.shares.values()) or sum(self.shares.values()) >= 1:
            raise XltError(f"shares are {self.shares}; each must be above 0, and together they must be below 1.")
        super().__init__(**{"push": "push" in self.shares, "pull": "pull" in self.shares, **options})
        self.name, self.limit = self.name.replace("ear", "ear-normalised", 1), limit
        self._weights, self._norms = dict(self.weights), dict[str, float]()

    def adapt(self, norms: Mapping[str, float]) -> None:
        """Set the weights anew from the norms of the unweighted terms' gradients."""
        for name, norm in norms.items():
            self._norms[name] = 0.9 * self._norms[name] + 0.1 * norm if name in self._norms else norm
        rest = sum(self._weights[name] * norm for name, norm in self._norms.items() if name not in self.shares)
        scale = rest / (1 - sum(self.shares.values()))
        for name, share in self.shares.items():
            self._weights[name] = min(self.limit, share * scale / max(self._norms[name], 1e-30))

    def current_weights(self) -> dict[str, float]:
        """Return the weights of the last measurement."""
        return self._weights

    def state(self) -> dict[str, float]:
        """Return the averaged norms and the weights."""
        norms = {f"norm.{name}": value for name, value in self._norms.items()}
        return norms | {f"weight.{name}": value for name, value in self._weights.items()}

    def restore(self, state: Mapping[str, float]) -> None:
        """Take back what ``state`` returned."""
        self._norms = {k.removeprefix("norm."): v for k, v in state.items() if k.startswith("norm.")}
        self._weights |= {k.removeprefix("weight."): v for k, v in state.items() if k.startswith("weight.")}


class RSDA(EAR):
    """Robust training by augmented data: ``loss = CE(f(x), y) + CE(f(x'), y)``, x' from any maker.

    Args:
        copies: Visits of a sentence in an epoch, each with another x'.

    Cost: one forward of two streams and its backward.

    References:
        Huang et al., "Improving Zero-Shot Cross-Lingual Transfer Learning via Robust Training", EMNLP 2021; there x'
        has synonyms, for whose table ``NeighbourSwap(only="source")`` stands offline.

    Relations:
        EAR's Robust target alone. ``RSRP`` is this with ``EmbeddingNoise``.
    """

    def __init__(self, copies: int = 1) -> None:
        super().__init__(push=False, pull=False, copies=copies)
        self.name = "rsda"


class RSRP(Objective):
    """Robust training by random perturbation: ``loss = CE(f(e), y) + CE(f(e + d), y)``, d random around embeddings e.

    Each token's ``d`` has a random direction and a length drawn so that it is uniform in a ball of ``radius`` times the
    mean norm of the batch's word embeddings; padding is not moved.

    Args:
        radius: In units of that mean norm.
        copies: Visits of a sentence in an epoch.

    Cost: one forward of two streams and its backward.

    References:
        Huang et al., "Improving Zero-Shot Cross-Lingual Transfer Learning via Robust Training", EMNLP 2021.

    Relations:
        ``Adversarial`` takes the worst point of the same ball instead of a random one.
    """

    streams = 2

    def __init__(self, radius: float = 0.1, copies: int = 1) -> None:
        super().__init__(copies)
        if not radius > 0:
            raise XltError(f"radius is {radius}; it must be above 0.")
        self.name, self.radius, self.weights = "rsrp", radius, {"ce": 1.0, "robust": 1.0}

    def __call__(self, model: Classifier, batch: Batch) -> dict[str, Tensor]:
        moved = self._moved(model, batch)
        with embedding_noise(model.encoder, torch.cat([torch.zeros_like(moved), moved])):
            first, second = model(**_inputs(batch)).chunk(2)
        return {"ce": cross_entropy(first, batch["labels"]), "robust": cross_entropy(second, batch["labels"])}

    def _moved(self, model: Classifier, batch: Batch) -> Tensor:
        """Return the move of each token's word embedding, ``(batch, seq, hidden)``."""
        return self._ball(model, batch)[0]

    def _ball(self, model: Classifier, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return a random point of each token's ball, the ball's radius, and 1 at real tokens, (batch, seq, 1)."""
        ids, mask = (batch[key].chunk(2)[0] for key in ("input_ids", "attention_mask"))
        with torch.no_grad():
            embedded = model.encoder.get_input_embeddings()(ids).float()  # type: ignore[operator]
            real = mask[..., None].float()
            radius = self.radius * (embedded.norm(dim=-1, keepdim=True) * real).sum() / real.sum()
            direction = torch.randn_like(embedded)
            direction = direction / direction.norm(dim=-1, keepdim=True)
            length = torch.rand_like(real) ** (1 / embedded.shape[-1])  # uniform in volume
            return direction * length * radius * real, radius, real


class Adversarial(RSRP):
    """Adversarial training: ``loss = CE(f(e), y) + max_d CE(f(e + d), y)``, d in the ball of ``RSRP``.

    The maximum is sought by projected gradient ascent: from a random point of the ball, ``steps`` times
    ``d <- P(d + rate * radius * g / ||g||)`` with ``g`` the gradient of each token's move and ``P`` the projection on
    the ball.

    Args:
        radius: In units of the mean norm of the batch's word embeddings.
        steps: Steps of the ascent.
        rate: Length of a step in radii.
        copies: Visits of a sentence in an epoch.

    Cost: one forward of two streams and its backward, and for each step of the ascent a forward and a backward of one
    stream more.

    References:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018; used for cross-lingual
        transfer by Huang et al., EMNLP 2021.

    Relations:
        ``steps=0`` is ``RSRP``.
    """

    def __init__(self, radius: float = 0.1, steps: int = 1, rate: float = 1.0, copies: int = 1) -> None:
        super().__init__(radius, copies)
        if steps < 0 or not rate > 0:
            raise XltError(f"steps is {steps} and rate {rate}; give 0 steps or more, and a rate above 0.")
        self.name, self.steps, self.rate = "adversarial", steps, rate

    @property
    def forwards(self) -> int:
        """Two streams and one more forward for each step of the ascent."""
        return self.streams + self.steps

    def _moved(self, model: Classifier, batch: Batch) -> Tensor:
        moved, radius, real = self._ball(model, batch)
        inputs = {key: value.chunk(2)[0] for key, value in _inputs(batch).items()}
        for _ in range(self.steps):
            moved.requires_grad_(True)
            with torch.enable_grad(), embedding_noise(model.encoder, moved):
                risen = cross_entropy(model(**inputs), batch["labels"])
            (gradient,) = torch.autograd.grad(risen, moved)
            gradient = gradient / gradient.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            moved = (moved.detach() + self.rate * radius * gradient) * real
            moved = moved * (radius / moved.norm(dim=-1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
        return moved.detach()


class RDrop(Objective):
    """Regularised dropout: ``loss = CE(p, y) + CE(q, y) + alpha * (KL(p || q) + KL(q || p)) / 2`` over two passes.

    ``p`` and ``q`` are the predictions for the same sentences under two dropout masks.

    Args:
        alpha: Weight of the divergence.
        copies: Visits of a sentence in an epoch.

    Cost: one forward of two streams and its backward.

    References:
        Liang et al., "R-Drop: Regularized Dropout for Neural Networks", NeurIPS 2021; there the two cross-entropies are
        averaged in some tasks, here they are summed as in ``Vanilla(passes=2)``.

    Relations:
        ``Vanilla(passes=2)`` with a consistency term; no virtual sentence.
    """

    streams = 2

    def __init__(self, alpha: float = 1.0, copies: int = 1) -> None:
        super().__init__(copies)
        if not alpha > 0:
            raise XltError(f"alpha is {alpha}; it must be above 0.")
        self.name, self.weights = "rdrop", {"ce": 1.0, "second_pass": 1.0, "kl": alpha}

    def __call__(self, model: Classifier, batch: Batch) -> dict[str, Tensor]:
        logits = model(**_inputs(batch)).chunk(2)
        ce, again = (cross_entropy(part, batch["labels"]) for part in logits)
        return {"ce": ce, "second_pass": again, "kl": _divergence(*logits)}


def make_objective(method: str, **options: Any) -> Objective:
    """Return the objective of a name in ``METHODS``; ``vanilla`` is compute-matched unless ``passes=1``.

    ``ear-E``, ``ear-AR`` and the like are EAR with these of its terms (E push, A pull, R robust) alone.
    """
    letters = method.removeprefix("ear-")
    if method != letters and letters in SUBSETS:
        off = {
            name: False for name, letter in zip(("push", "pull", "robust"), "EAR", strict=True) if letter not in letters
        }
        method, options = "ear", off | options
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    makers = (Vanilla, EAR, NormalisedEAR, RSDA, RSRP, Adversarial, RDrop)
    defaults = {"passes": 2} if method == "vanilla" else {}
    try:
        return dict(zip(METHODS, makers, strict=True))[method](**(defaults | options))
    except TypeError as error:
        raise XltError(f"{method}: {error}. Its options are in the docstring of its class.") from None


def _divergence(logits: Tensor, others: Tensor) -> Tensor:
    """Return the mean over rows of the symmetrised divergence of two predictions, ``(KL(p||q) + KL(q||p)) / 2``."""
    first, second = logits.log_softmax(-1), others.log_softmax(-1)
    return ((first.exp() - second.exp()) * (first - second)).sum(-1).mean() / 2


def _form(term: str, value: str | bool, forms: tuple[str, ...]) -> str:
    chosen = forms[0] if value is True else (value or "")
    if chosen and chosen not in forms:
        raise unknown(f"{term} form", chosen, forms)
    return chosen


def _inputs(batch: Batch) -> dict[str, Tensor]:
    return {key: batch[key] for key in ("input_ids", "attention_mask", "token_type_ids") if key in batch}
