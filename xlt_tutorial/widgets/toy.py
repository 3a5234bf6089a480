"""A toy in the plane: points that the real losses move, for whoever wants to feel what alpha and beta do.

Values and figures, and no widget; ``playground`` puts it on the screen and keeps it moving.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from xlt_tutorial.errors import unknown
from xlt_tutorial.styles import FONT, PALETTE, safe_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TERMS = ("ce", "robust", "push", "pull")
ALPHAS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
BETAS = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
CLASSES, TOKENS, WIDTH = 3, 6, 2
EDGE = 5.0  # half the side of the view; a step beyond it is not taken
RATE, STEPS = 0.5, 4  # of gradient descent, and how many a frame
ANGLES = tuple(np.pi * (1 / 2 + 2 * number / CLASSES) for number in range(CLASSES))


@dataclass(frozen=True)
class Dials:
    """What is set in the toy: the weights of push and pull, the push's form, and whether x' must be classified."""

    alpha: float = 0.1
    beta: float = 1.0
    push: str = "published"
    robust: bool = True


@dataclass(frozen=True)
class Frame:
    """What the toy shows.

    Attributes:
        original: (sentences, tokens, 2).
        virtual: The same of x'.
        terms: The value of each loss term.
        shares: Each weighted term's share of the gradient on the points.
        moved: Mean distance of the means of x and x'.
        right: How many of the virtual sentences are classified right.
        steps: Since the start.
        stuck: Whether a point has reached the edge, so that the toy stands still.
    """

    original: np.ndarray
    virtual: np.ndarray
    terms: Mapping[str, float]
    shares: Mapping[str, float]
    moved: float
    right: int
    steps: int
    stuck: bool


class Toy:
    """Three sentences of six points in the plane and their virtual copies, moved by gradient descent on EAR's loss.

    A token is a point, and the points themselves are what is trained. ``push`` and ``pull`` are
    ``losses.embedding_push`` and ``losses.attention_pull``; the map of a sentence is ``softmax(X X^T / sqrt(2))``: a
    token's point is both its query and its key. The classifier is fixed: the logits of a sentence are the products of
    its mean with three directions.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.reset()

    def reset(self) -> None:
        """Go back to the start: each copy is its sentence with two tokens elsewhere."""
        import torch

        draw = torch.Generator().manual_seed(self.seed)
        self.ways = torch.tensor([[np.cos(angle), np.sin(angle)] for angle in ANGLES], dtype=torch.float32)
        spread = 0.55 * torch.randn(CLASSES, TOKENS, WIDTH, generator=draw)
        original = 0.9 * self.ways[:, None] + spread - spread.mean(1, keepdim=True)
        virtual = original.clone()
        virtual[:, :2] += 0.8 * torch.randn(CLASSES, 2, WIDTH, generator=draw)
        self.points = torch.stack([original, virtual])
        self.steps, self.stuck = 0, False

    def frame(self, dials: Dials, steps: int = STEPS) -> Frame:
        """Take some steps and return what there is to see; none are taken once a point has reached the edge."""
        import torch

        from xlt_tutorial.training import gradient_shares

        weights = {"ce": 1.0, "robust": float(dials.robust), "push": dials.alpha, "pull": dials.beta}
        weights = {term: weight for term, weight in weights.items() if weight}
        for step in range(steps + 1):
            points = self.points.clone().requires_grad_()
            terms = self._terms(points, dials.push)
            if step == steps or self.stuck:
                break
            total = sum((weight * terms[name] for name, weight in weights.items()), start=torch.zeros(()))
            moved = self.points - RATE * torch.autograd.grad(total, points)[0]
            if not bool((moved.abs() < EDGE).all()):
                self.stuck = True
                continue
            self.points, self.steps = moved, self.steps + 1
        norms = {name: float(torch.autograd.grad(terms[name], points, retain_graph=True)[0].norm()) for name in weights}
        means = self.points.mean(2)
        logits = means[1] @ self.ways.T
        original, virtual = self.points.numpy().copy()
        return Frame(
            original, virtual, {name: float(terms[name].detach()) for name in weights}, gradient_shares(norms, weights),
            float((means[0] - means[1]).norm(dim=-1).mean()), int((logits.argmax(-1) == torch.arange(CLASSES)).sum()),
            self.steps, self.stuck,
        )  # fmt: skip

    def _terms(self, points: Any, push: str) -> dict[str, Any]:
        """Return the four terms of points (2, sentences, tokens, 2)."""
        import torch
        from torch.nn.functional import cross_entropy

        from xlt_tutorial.losses import attention_pull, embedding_push

        labels, mask = torch.arange(CLASSES), torch.ones(CLASSES, TOKENS)
        first, second = (points.mean(2) @ self.ways.T).unbind()
        maps = (points @ points.transpose(-1, -2) / WIDTH**0.5).softmax(-1)[:, :, None]
        return {
            "ce": cross_entropy(first, labels),
            "robust": cross_entropy(second, labels),
            "push": embedding_push(points[0], points[1], mask, mask, push),
            "pull": attention_pull(maps[0], maps[1], mask, mask),
        }


def turned(dials: Dials, **wishes: Any) -> tuple[Dials, list[str]]:
    """Turn the dials as far as they go; a sentence for each wish that cannot be met."""
    from xlt_tutorial.losses import PUSH_FORMS

    said: list[str] = []
    for name, wish in wishes.items():
        if name not in Dials.__dataclass_fields__:
            said.append(str(unknown("dial", name, Dials.__dataclass_fields__)))
        elif name == "push" and wish not in PUSH_FORMS:
            said.append(str(unknown("push form", wish, PUSH_FORMS)))
        elif name == "push":
            dials = replace(dials, push=wish)
        elif name == "robust":
            dials = replace(dials, robust=bool(wish))
        else:
            try:
                number = float(wish)
            except (TypeError, ValueError):
                number = float("nan")
            if not 0 <= number < float("inf"):
                said.append(f"{name} is {wish!r}; it must be a number, 0 or more.")
            else:
                dials = replace(dials, alpha=number) if name == "alpha" else replace(dials, beta=number)
    return dials, said


def toy_told(frame: Frame, dials: Dials) -> str:
    """Say where the toy stands."""
    shares = ", ".join(f"{name} {share:.1%}" for name, share in frame.shares.items())
    told = (
        f"After {frame.steps} steps x and x' are {frame.moved:.2f} apart on average; {frame.right} of {CLASSES} "
        f"virtual sentences are classified right. Shares of the gradient: {shares}."
    )
    if frame.stuck:
        why = "the published push has no floor" if dials.push == "published" and dials.alpha else "nothing holds it"
        told += f" A point has reached the edge, and the toy stands still: {why}. Reset, and turn something down."
    return told


def toy_traces(frame: Frame) -> list[dict[str, Any]]:
    """Return what moves: points of x by sentence, points of x' by sentence, lines between their means, the shares."""
    both = np.stack([frame.original.mean(1), frame.virtual.mean(1), np.full((CLASSES, WIDTH), np.nan)], axis=1)
    ends = both.reshape(-1, WIDTH)
    clouds = [*frame.original, *frame.virtual]
    return [
        *({"x": cloud[:, 0], "y": cloud[:, 1]} for cloud in clouds),
        {"x": ends[:, 0], "y": ends[:, 1]},
        {"x": list(TERMS), "y": [round(100 * frame.shares.get(term, 0.0), 3) for term in TERMS]},
    ]


def toy_figure(frames: Mapping[str, Frame]) -> Figure:
    """Draw frames by title, each with the shares of the gradient: below several frames, beside a single one."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    many, alone = len(frames), len(frames) == 1
    titles = [safe_text(title) for title in frames]
    fig = make_subplots(
        rows=1 if alone else 2, cols=2 if alone else many, vertical_spacing=0.1, horizontal_spacing=0.08,
        subplot_titles=[*titles, "Share of the gradient"] if alone else titles,
        **({"column_widths": [0.66, 0.34]} if alone else {"row_heights": [0.76, 0.24]}),
    )  # fmt: skip
    colours = [PALETTE[1], PALETTE[6], PALETTE[3]]
    side = {"range": [-EDGE, EDGE], "showgrid": False, "zeroline": False, "showticklabels": False, "mirror": True}
    side |= {"showline": True, "linecolor": "#bbbbbb"}
    for column, frame in enumerate(frames.values(), 1):
        plane, bars = {"row": 1, "col": column}, {"row": 1 if alone else 2, "col": 2 if alone else column}
        traces = toy_traces(frame)
        for at, trace in enumerate(traces[: 2 * CLASSES]):
            sentence, copied = at % CLASSES, at >= CLASSES
            name = f"x' of sentence {sentence + 1}" if copied else f"x, sentence {sentence + 1}"
            marker = {"size": 9, "color": colours[sentence], "symbol": "diamond-open" if copied else "circle"}
            points = go.Scatter(trace, mode="markers", marker=marker, name=name, hoverinfo="name")
            fig.add_trace(points.update(showlegend=column == 1, marker_line_width=2 * copied), **plane)
        line = {"color": "#555555", "width": 1.5, "dash": "dot"}
        means = go.Scatter(traces[-2], mode="lines", line=line, name="their means", hoverinfo="skip")
        fig.add_trace(means.update(showlegend=column == 1), **plane)
        fig.add_trace(go.Bar(traces[-1], marker_color="#888888", showlegend=False), **bars)
        for way in ANGLES:  # the borders between classes lie opposite their directions
            line = {"x0": 0, "y0": 0, "x1": -2 * EDGE * np.cos(way), "y1": -2 * EDGE * np.sin(way)}
            line |= {"type": "line", "layer": "below", "line": {"color": "#dddddd", "width": 1}}
            fig.add_shape(line, **plane)
        fig.update_xaxes(side | {"constrain": "domain"}, **plane)
        anchor = fig.get_subplot(1, column).xaxis.plotly_name.replace("axis", "")
        fig.update_yaxes(side | {"scaleanchor": anchor, "constrain": "domain"}, **plane)
        fig.update_yaxes(range=[0, 100], ticksuffix=" %", nticks=5, **bars)
    fig.update_layout(
        template="plotly_white", font={"family": FONT, "size": 13, "color": "#222222"}, height=420 if alone else 500,
        margin={"l": 10, "r": 10, "t": 40, "b": 20}, legend={"orientation": "h", "y": -0.04},
    )  # fmt: skip
    return fig


@cache
def toy_after(steps: int, dials: Dials, seed: int = 0) -> Frame:
    """Return the toy after so many steps from its start, or where it got stuck before."""
    return Toy(seed).frame(dials, steps)
