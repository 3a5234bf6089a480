"""The two alignment losses against plain loops, and the invariances that each form must or must not have."""

from __future__ import annotations

import math

import pytest
import torch

from xlt_tutorial.errors import XltError
from xlt_tutorial.losses import PULL_FORMS, PUSH_FORMS, attention_pull, embedding_push

LENGTHS = ((5, 3), (2, 6), (6, 6), (4, 1))


def masks(lengths, width):
    rows = [[1] * n + [0] * (width - n) for n in lengths]
    return torch.tensor(rows)


def streams(width=6, hidden=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    first = torch.randn(len(LENGTHS), width, hidden, generator=generator, dtype=dtype)
    second = torch.randn(len(LENGTHS), width, hidden, generator=generator, dtype=dtype)
    return first, second, masks([a for a, _ in LENGTHS], width), masks([b for _, b in LENGTHS], width)


def maps(width=6, heads=2, dtype=torch.float64):
    """Attention maps as an encoder makes them: padded keys get nothing, padded queries still attend."""
    generator = torch.Generator().manual_seed(4)
    first, second = masks([a for a, _ in LENGTHS], width), masks([b for _, b in LENGTHS], width)
    out = []
    for mask in (first, second):
        scores = torch.randn(len(LENGTHS), heads, width, width, generator=generator, dtype=dtype)
        out.append(scores.masked_fill(mask[:, None, None, :] == 0, -1e9).softmax(-1))
    return out[0], out[1], first, second


def loop_push(u, v, um, vm, form, margin=1.0):
    """Every mean written out, one number at a time."""
    total = 0.0
    for b in range(len(u)):
        means = []
        for values, mask in ((u[b], um[b]), (v[b], vm[b])):
            real = [t for t in range(len(mask)) if mask[t]]
            means.append([sum(values[t][d].item() for t in real) / len(real) for d in range(values.shape[-1])])
        a, c = means
        distance = sum((x - y) ** 2 for x, y in zip(a, c, strict=True)) / len(a)
        if form == "published":
            total += -distance
        elif form == "hinge":
            total += max(0.0, margin - distance) - margin
        else:
            dot = sum(x * y for x, y in zip(a, c, strict=True))
            total += dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in c)) - 1
    return total / len(u)


def loop_pull(a, b, am, bm, form):
    batch, heads, width, _ = a.shape
    total = 0.0
    for i in range(batch):
        real = [t for t in range(width) if am[i][t] and bm[i][t]]
        value = 0.0
        for h in range(heads):
            if form == "published":
                value += sum((a[i, h, q, k] - b[i, h, q, k]).item() ** 2 for q in range(width) for k in range(width))
            elif form == "masked":
                value += sum((a[i, h, q, k] - b[i, h, q, k]).item() ** 2 for q in real for k in real)
            else:
                for q in real:
                    p = [a[i, h, q, k].item() for k in real]
                    r = [b[i, h, q, k].item() for k in real]
                    p, r = [x / sum(p) for x in p], [x / sum(r) for x in r]
                    value += sum(x * math.log(x / y) for x, y in zip(p, r, strict=True))
        cells = {"published": width * width, "masked": len(real) ** 2, "row_kl": len(real)}[form]
        total += value / (heads * cells)
    return total / batch


@pytest.mark.parametrize("form", PUSH_FORMS)
def test_push_equals_the_loop(form):
    u, v, um, vm = streams()
    assert embedding_push(u, v, um, vm, form=form).item() == pytest.approx(loop_push(u, v, um, vm, form), abs=1e-12)


@pytest.mark.parametrize("form", PULL_FORMS)
def test_pull_equals_the_loop(form):
    a, b, am, bm = maps()
    assert attention_pull(a, b, am, bm, form=form).item() == pytest.approx(loop_pull(a, b, am, bm, form), abs=1e-12)


def test_hinge_margin_is_where_the_force_ends():
    u, v, um, vm = streams()
    distance = -embedding_push(u, v, um, vm, reduction="none")
    margin = distance.sort().values[1:3].mean().item()  # two pairs nearer, two farther
    values = embedding_push(u.requires_grad_(), v, um, vm, form="hinge", margin=margin, reduction="none")
    for i in range(len(distance)):
        (gradient,) = torch.autograd.grad(values[i], u, retain_graph=True)
        assert (gradient[i].abs().max() > 0) == (distance[i].item() < margin)
        assert values[i].item() == pytest.approx(max(-margin, -distance[i].item()))


@pytest.mark.parametrize("form", PUSH_FORMS)
def test_push_is_zero_for_equal_streams_and_negative_otherwise(form):
    u, v, um, vm = streams()
    assert embedding_push(u, u, um, um, form=form).item() == pytest.approx(0, abs=1e-12)
    assert (embedding_push(u, v, um, vm, form=form, reduction="none") < 0).all()


@pytest.mark.parametrize("form", PULL_FORMS)
def test_pull_is_zero_for_equal_maps_and_positive_otherwise(form):
    a, b, am, bm = maps()
    assert attention_pull(a, a, am, am, form=form).item() == pytest.approx(0, abs=1e-12)
    different = attention_pull(a, b, am, bm, form=form, reduction="none")
    # The last pair shares one real token: one cell, whose row sums to one in the renormalised form.
    assert (different[:3] > 0).all() and (different >= 0).all()


@pytest.mark.parametrize("form", PUSH_FORMS)
def test_push_ignores_padding(form):
    u, v, um, vm = streams()
    wide = torch.nn.functional.pad(u, (0, 0, 0, 5), value=9.0), torch.nn.functional.pad(v, (0, 0, 0, 5), value=-9.0)
    wide_masks = torch.nn.functional.pad(um, (0, 5)), torch.nn.functional.pad(vm, (0, 5))
    assert embedding_push(*wide, *wide_masks, form=form).item() == pytest.approx(
        embedding_push(u, v, um, vm, form=form).item(), abs=1e-12
    )


def padded_maps(a, mask, extra):
    """The same attention with more padding: no key gained, padded queries attending as the last real one does."""
    wide = torch.nn.functional.pad(a, (0, extra))
    rows = wide[:, :, -1:, :].expand(-1, -1, extra, -1)
    return torch.cat([wide, rows], dim=2), torch.nn.functional.pad(mask, (0, extra))


@pytest.mark.parametrize("form", ["masked", "row_kl"])
def test_masked_pulls_ignore_padding(form):
    a, b, am, bm = maps()
    wide_a, wide_am = padded_maps(a, am, 5)
    wide_b, wide_bm = padded_maps(b, bm, 5)
    assert attention_pull(wide_a, wide_b, wide_am, wide_bm, form=form).item() == pytest.approx(
        attention_pull(a, b, am, bm, form=form).item(), abs=1e-12
    )


def test_published_pull_depends_on_padding():
    a, b, am, bm = maps()
    wide_a, wide_am = padded_maps(a, am, 5)
    wide_b, wide_bm = padded_maps(b, bm, 5)
    narrow = attention_pull(a, b, am, bm).item()
    wide = attention_pull(wide_a, wide_b, wide_am, wide_bm).item()
    assert wide == pytest.approx(loop_pull(wide_a, wide_b, wide_am, wide_bm, "published"), abs=1e-12)
    assert abs(wide - narrow) > 0.1 * narrow


@pytest.mark.parametrize("form", PUSH_FORMS)
def test_push_does_not_depend_on_order(form):
    u, v, um, vm = streams()
    order = torch.tensor([2, 0, 3, 1])
    turned = torch.randperm(u.shape[-1], generator=torch.Generator().manual_seed(0))
    value = embedding_push(u, v, um, vm, form=form).item()
    assert embedding_push(u[order], v[order], um[order], vm[order], form=form).item() == pytest.approx(value)
    assert embedding_push(u[..., turned], v[..., turned], um, vm, form=form).item() == pytest.approx(value)
    assert embedding_push(v, u, vm, um, form=form).item() == pytest.approx(value)


@pytest.mark.parametrize("form", PULL_FORMS)
def test_pull_does_not_depend_on_order(form):
    a, b, am, bm = maps()
    order = torch.tensor([2, 0, 3, 1])
    value = attention_pull(a, b, am, bm, form=form).item()
    assert attention_pull(a[order], b[order], am[order], bm[order], form=form).item() == pytest.approx(value)
    assert attention_pull(a.flip(1), b.flip(1), am, bm, form=form).item() == pytest.approx(value)


@pytest.mark.parametrize("form", PUSH_FORMS)
def test_push_gradient(form):
    u, v, um, vm = streams()
    assert torch.autograd.gradcheck(
        lambda x, y: embedding_push(x, y, um, vm, form=form, margin=50.0), (u.requires_grad_(), v.requires_grad_())
    )


@pytest.mark.parametrize("form", PULL_FORMS)
def test_pull_gradient(form):
    a, b, am, bm = maps()
    # Through the softmax, as in an encoder: a free map could leave the simplex.
    first, second = (x.clamp(min=1e-6).log().requires_grad_() for x in (a, b))

    def value(x, y):
        keys = [(mask == 0)[:, None, None, :] for mask in (am, bm)]
        x, y = x.masked_fill(keys[0], -1e9).softmax(-1), y.masked_fill(keys[1], -1e9).softmax(-1)
        return attention_pull(x, y, am, bm, form=form)

    assert torch.autograd.gradcheck(value, (first, second))


@pytest.mark.parametrize("form", PULL_FORMS)
def test_pull_gradient_is_finite_where_attention_is_zero(form):
    a, b, am, bm = maps(dtype=torch.float32)
    a[0, 0, 0, 1] = b[1, 0, 0, 1] = 0.0
    attention_pull(a.requires_grad_(), b.requires_grad_(), am, bm, form=form).backward()
    assert a.grad.isfinite().all() and b.grad.isfinite().all()


def test_streams_of_different_width_can_be_pushed():
    u, v, um, vm = streams()
    longest = int(vm.sum(1).max())
    narrow = embedding_push(u, v[:, :longest], um, vm[:, :longest]).item()
    assert narrow == pytest.approx(embedding_push(u, v, um, vm).item())


def test_errors_name_the_rule():
    u, v, um, vm = streams()
    a, b, am, bm = maps()
    with pytest.raises(XltError, match=r'push form "hing".*Did you mean "hinge"\?.*published, hinge, cosine'):
        embedding_push(u, v, um, vm, form="hing")
    with pytest.raises(XltError, match="pull form"):
        attention_pull(a, b, am, bm, form="kl")
    with pytest.raises(XltError, match=r"virtual mask has shape \(4, 5\).*one entry per token"):
        embedding_push(u, v, um, vm[:, :5])
    with pytest.raises(XltError, match="pad both streams to one width"):
        attention_pull(a, b[..., :5, :5], am, bm)
    with pytest.raises(XltError, match="original mask"):
        attention_pull(a, b, am[:, :4], bm)
    with pytest.raises(XltError, match="reduction"):
        embedding_push(u, v, um, vm, reduction="sum")
