"""The machinery of ``check``: what students return, raise, print, change and leave out is answered in a sentence."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from functools import cache, partial, wraps
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from xlt_tutorial import exercises
from xlt_tutorial.errors import XltError
from xlt_tutorial.exercises import Case, Exercise, Mistake, check, names, values

PRAISE = "That is it."


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[..., exercises.Verdict]:
    """Check a function against an exercise of the test's own: ``ask(function, answer, *cases, mistakes=..)``."""

    def asked(function: Any, answer: Callable[..., Any], *cases: Any, mistakes: Any = (), **more: Any) -> Any:
        calls = [Case(f"case {i}", args if isinstance(args, tuple) else (args,)) for i, args in enumerate(cases)]
        made = Exercise(answer, lambda: calls, tuple(mistakes), PRAISE, **more)
        monkeypatch.setattr(exercises, "exercise", lambda name: made)
        return check("some", function)

    return asked


def total(values: Tensor) -> Tensor:
    return values.sum()


ONE, TWO = torch.arange(6.0).reshape(2, 3), torch.ones(4)


# --- what is called ------------------------------------------------------------------------------------------------


class Summed:
    factor = 1

    def method(self, values):
        return self.factor * values.sum()

    def __call__(self, values):
        return values.sum()

    @staticmethod
    def static(values):
        return values.sum()


class Layer(torch.nn.Module):
    def forward(self, values):
        return values.sum()


def decorated(function):
    @wraps(function)
    def inner(*args):
        return function(*args)

    return inner


def annotated(values: Tensor, dims: Any = ..., /) -> Tensor:
    """Has a docstring, annotations, and dots as a default value."""
    return values[dims].sum()


RIGHT = {
    "function": total,
    "lambda": lambda values: values.sum(),
    "method": Summed().method,
    "static method": Summed.static,
    "object": Summed(),
    "module": Layer(),
    "partial": partial(torch.sum, dim=None),
    "partial of a partial": partial(partial(lambda values, power: (values**power).sum(), power=1)),
    "decorated": decorated(total),
    "builtin": torch.sum,
    "annotated": annotated,
}


@pytest.mark.parametrize("kind", RIGHT)
def test_whatever_can_be_called_is_checked(ask, kind):
    verdict = ask(RIGHT[kind], total, ONE, TWO)
    assert verdict and verdict.status == "right" and verdict.message == PRAISE


def test_functions_that_end_at_once_are_finished(ask):
    assert ask(lambda values: values, lambda values: values, ONE, TWO).status == "right"
    assert ask(lambda values: 0, total, ONE, TWO).status == "wrong"
    assert ask(lambda values: values[..., 0], lambda values: values[..., 0], ONE, TWO)


def unfinished() -> list[Any]:
    def bare(values): ...

    def documented(values: Tensor, dim: int = 0, name: str = "x") -> Tensor:
        """Sum of the values."""
        ...

    def passing(values):
        pass

    def half(values):
        largest = ...
        return (values / largest).sum()

    def end(values):
        double = 2 * values  # noqa: F841
        return ...

    def closed(values):
        largest = ...
        return max(value / largest for value in values)

    def refused(values):
        raise NotImplementedError

    def added(values):
        return values + ...

    return [bare, documented, passing, half, end, closed, refused, added, lambda values: ..., partial(bare), ...]


@pytest.mark.parametrize("function", unfinished(), ids=lambda function: getattr(function, "__name__", "other"))
def test_dots_are_unfinished_work(ask, function):
    verdict = ask(function, total, ONE, TWO)
    assert verdict.status == "unfinished" and "Replace the dots" in verdict.message
    assert not verdict


def test_dots_inside_finished_work_are_no_gap(ask):
    def fills(values):
        made = torch.zeros(2)
        made[...] = values.sum()
        return made[0]

    def picks(values, dims=...):
        index = 0
        return values[..., : index + 99].sum()

    assert ask(fills, total, ONE, TWO) and ask(picks, total, ONE, TWO)


def test_nothing_returned_is_unfinished_but_where_nothing_is_right(ask):
    def forgets(values):
        values.sum()

    verdict = ask(forgets, total, ONE, TWO)
    assert verdict.status == "unfinished" and "case 0" in verdict.message and "return" in verdict.message
    first = lambda values: values[0] if values else None  # noqa: E731
    assert ask(lambda values: next(iter(values), None), first, [1, 2], [])


@pytest.mark.parametrize("given", [3.0, "text", None, torch.ones(2)], ids=repr)
def test_a_result_in_place_of_the_function(ask, given):
    verdict = ask(given, total, ONE, TWO)
    assert verdict.status == "wrong" and "the function itself" in verdict.message


# --- what is raised ------------------------------------------------------------------------------------------------


def test_an_error_is_told_with_the_line_and_without_a_traceback(ask):
    def steps_wide(values):
        wide = values.reshape(-1, 1)
        return (values @ wide @ wide).sum()

    verdict = ask(steps_wide, total, ONE, TWO)
    assert verdict.status == "wrong"
    assert "case 0" in verdict.message and "RuntimeError" in verdict.message
    assert "in the line `return (values @ wide @ wide).sum()`" in verdict.message
    assert "Traceback" not in verdict.message and "\n" not in verdict.message and ".py" not in verdict.message


def test_long_and_strange_errors_stay_one_short_line(ask):
    def shouts(values):
        raise ValueError("`a`\n" + "very long " * 200)

    def silent(values):
        raise KeyError

    message = ask(shouts, total, ONE, TWO).message
    assert len(message) < 400 and "\n" not in message and message.count("`") == 4
    assert "`KeyError`" in ask(silent, total, ONE, TWO).message


def test_other_arguments_than_the_exercise_has(ask):
    verdict = ask(lambda: 1, total, ONE, TWO)
    assert verdict.status == "wrong" and "called with 1 argument " in verdict.message
    verdict = ask(lambda values: 1, lambda one, two: 1, (1, 2), (3, 4))
    assert "called with 2 arguments (too many positional arguments)" in verdict.message


def test_an_interrupt_is_not_swallowed(ask):
    def interrupted(values):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(interrupted, total, ONE, TWO)


def test_a_broken_answer_is_the_authors_fault(ask):
    with pytest.raises(ZeroDivisionError):
        ask(total, lambda values: 1 / 0, ONE, TWO)


# --- what is changed -----------------------------------------------------------------------------------------------


SPOILERS = {
    "tensor": (torch.ones(3), lambda x: x.mul_(2)),
    "shape": (torch.ones(3), lambda x: x.unsqueeze_(0)),
    "array": (np.ones(3), lambda x: x.sort() or x.__setitem__(0, 5)),
    "list": ([3, 1, 2], list.sort),
    "list of texts": (["b", "a"], list.sort),
    "dict": ({"en": 1.0, "de": 2.0}, lambda x: x.pop("en")),
    "dict of None": ({"en": None}, lambda x: x.update(en=1)),
    "list in a dict": ({"en": [1, 2]}, lambda x: x["en"].append(3)),
    "set": ({1, 2}, lambda x: x.add(3)),
    "series": (pd.Series([1.0, 2.0]), lambda x: x.__setitem__(0, 9.0)),
    "leaf": (torch.ones(3, requires_grad=True), lambda x: x.add_(1)),
}


@pytest.mark.parametrize("kind", SPOILERS)
def test_arguments_that_are_changed_in_place(ask, kind):
    given, change = SPOILERS[kind]
    before = repr(given)

    def spoils(values):
        change(values)
        return 1.0

    verdict = ask(spoils, lambda values: 1.0, given, given)
    assert verdict.status == "wrong" and "in place" in verdict.message
    assert repr(given) == before, "the cases themselves are never changed"
    assert ask(lambda values: 1.0, lambda values: 1.0, given, given)


# --- what is returned ----------------------------------------------------------------------------------------------


FORMS = {
    "tensor": lambda x: x * 2,
    "double": lambda x: x.double() * 2,
    "half": lambda x: x.bfloat16() * 2,
    "array": lambda x: 2 * x.numpy(),
    "list": lambda x: (2 * x).tolist(),
    "list of tensors": lambda x: [2 * row for row in x],
    "tuple of lists": lambda x: tuple(list(row * 2) for row in x) if x.ndim == 2 else tuple(x * 2),
    "whole numbers": lambda x: (x * 2).long(),
    "view": lambda x: (2 * x).t().t(),
    "series": lambda x: pd.DataFrame(2 * x.numpy()) if x.ndim == 2 else pd.Series(2 * x.numpy()),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_numbers_in_another_form_are_right(ask, form):
    assert ask(FORMS[form], lambda x: x * 2, ONE, TWO)


def test_numbers_pairs_dicts_and_texts(ask):
    assert ask(lambda x: np.float32(x), float, 1, 2)
    assert ask(lambda x: torch.tensor(x), float, 1, 2)
    assert ask(lambda x: torch.tensor([x, -x]), lambda x: (x, -x), 1.0, 2.0)
    assert ask(lambda x: {"b": np.array(x), "a": torch.tensor(1)}, lambda x: {"a": 1, "b": x}, 1.0, 2.0)
    assert ask(lambda x: pd.Series({"a": x}), lambda x: {"a": x}, 1.0, 2.0)
    assert ask(lambda x: Counter(x), lambda x: {one: x.count(one) for one in x}, "aab", "b")
    assert ask(lambda x: tuple(x.split()), lambda x: x.split(), "a b", "c")
    assert ask(lambda x: x.upper(), lambda x: x.upper(), "a", "b")
    assert ask(lambda x: x > 1, lambda x: x > 1, TWO, ONE)
    assert not ask(lambda x: x.split()[:1], lambda x: x.split(), "a b", "c")
    assert not ask(lambda x: x, lambda x: x.upper(), "a", "b")
    assert not ask(lambda x: "1", lambda x: 1, 1, 2)


WRONG = {
    "shape": (lambda x: x.sum()[None], r"the shape \(1,\), expected one number"),
    "batch": (lambda x: x, r"the shape \(2, 3\), expected one number"),
    "type": (lambda x: "15", "15, of type str; expected 15"),
    "ragged": (lambda x: [[1.0], [1.0, 2.0]], "of type list"),
    "mapping": (lambda x: {"sum": x.sum()}, "of type dict"),
    "nan": (lambda x: x.sum() / 0 * 0, "nan is no number"),
    "infinity": (lambda x: x.sum() / 0, "returns inf, expected 15"),
    "rounded": (lambda x: torch.round(x.sum()) + 0.01, r"returns 15\.01, expected 15\."),
    "nearly": (lambda x: x.sum() * 1.0003, r"returns 15\.005, expected 15\."),
    "sign": (lambda x: -x.sum(), "In all cases it is -1 times"),
    "factor": (lambda x: x.mean() * 3 * x.numel(), "In all cases it is 3 times"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_no_mistake_explains_is_shown(ask, kind):
    function, words = WRONG[kind]
    verdict = ask(function, total, ONE, TWO)
    assert verdict.status == "wrong"
    assert verdict.message.startswith("For case 0 it returns")
    assert re.search(words, verdict.message), verdict.message


def test_a_generator_is_not_a_list(ask):
    for lazy in (lambda x: (y for y in x), lambda x: map(abs, x), lambda x: zip(x, x, strict=True)):
        assert "make it a list" in ask(lazy, lambda x: list(x), ONE, TWO).message


def test_no_factor_where_it_is_none(ask):
    assert "times" not in ask(lambda x: x.sum() + 1, total, ONE, TWO).message
    assert "times" not in ask(lambda x: 0.0, total, ONE, TWO).message


def test_dicts_say_which_key_is_wrong(ask):
    def both(x):
        return {"en": x, "de": 2.0 * x}

    assert "at the key 'de' 3, expected 6" in ask(lambda x: {"en": x, "de": x}, both, 3.0, 4.0).message
    assert "the keys ['en'], expected ['de', 'en']" in ask(lambda x: {"en": x}, both, 3.0, 4.0).message


def test_what_is_right_already_is_said(ask):
    verdict = ask(lambda x: x.sum() if x.ndim == 1 else x.sum() + 1, total, ONE, TWO, TWO + 1)
    assert "For case 0" in verdict.message and verdict.message.endswith("Already right: case 1; case 2.")


def test_small_numbers_are_compared_as_closely_as_large_ones(ask):
    tiny = [torch.tensor([1e-9, 3e-5]), torch.tensor([2e-5, 4e-5])]
    assert not ask(lambda x: x * 1.01, lambda x: x, *tiny)
    assert ask(lambda x: x * (1 + 1e-6), lambda x: x, *tiny)
    assert ask(lambda x: x + 1e-8, lambda x: x, torch.zeros(2), ONE)  # rounding where 0 is right
    assert not ask(lambda x: x + 1e-3, lambda x: x, torch.zeros(2), torch.zeros(3))
    assert ask(lambda x: x * 1.04, lambda x: x, ONE, TWO, tolerance=0.05)


def test_values_that_look_the_same_are_shown_with_more_digits():
    assert values.difference(0.1, 0.1 + 1e-8, 0.0) == "0.1, expected 0.10000001"
    assert values.short(torch.arange(1000.0)) == "[0, 1, 2, ..., 997, 998, 999]"
    assert len(values.short("x" * 1000)) == 160


# --- mistakes ------------------------------------------------------------------------------------------------------


def test_the_first_mistake_that_returns_the_same_gives_its_hint(ask):
    mistakes = [
        Mistake(lambda x: 1 / 0, "breaks"),
        Mistake(lambda x: x.mean() if x.ndim == 1 else x.sum(), "in one case alone"),
        Mistake(lambda x: x.mean(), "mean"),
        Mistake(lambda x: x.sum() / x.numel(), "mean again"),
    ]
    assert ask(lambda x: sum(x.flatten().tolist()) / x.numel(), total, ONE, TWO, mistakes=mistakes).message == "mean"
    assert ask(lambda x: x.mean() + 1, total, ONE, TWO, mistakes=mistakes).message.startswith("For case 0")


def test_a_mistake_that_makes_nan_is_known(ask):
    mistakes = [Mistake(lambda x: x.sum() / 0 * 0, "divides by zero")]
    assert ask(lambda x: float("nan"), total, ONE, TWO, mistakes=mistakes).message == "divides by zero"


# --- gradients -----------------------------------------------------------------------------------------------------


def pair(seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, 4, 3, generator=draw)
    return first.requires_grad_(), second.requires_grad_()


def apart(one: Tensor, two: Tensor) -> Tensor:
    return (one - two).square().mean()


@pytest.mark.parametrize(
    "function",
    [
        lambda one, two: apart(one, two).item(),
        lambda one, two: apart(one.detach(), two.detach()),
        lambda one, two: ((one.detach().numpy() - two.detach().numpy()) ** 2).mean(),
        torch.no_grad()(apart),
    ],
)
def test_a_loss_without_a_gradient_trains_nothing(ask, function):
    verdict = ask(function, apart, pair(0), pair(1))
    assert verdict.status == "wrong" and "carries no gradient" in verdict.message


def test_the_gradient_is_compared_too(ask):
    half = lambda one, two: apart(one.detach(), two)  # noqa: E731
    remade = lambda one, two: torch.tensor(apart(one, two).item(), requires_grad=True)  # noqa: E731
    for function in (half, remade):
        verdict = ask(function, apart, pair(0), pair(1))
        assert verdict.status == "wrong" and "its gradient is not" in verdict.message
    known = [Mistake(lambda one, two: apart(one, two.detach()), "the other"), Mistake(half, "one is detached")]
    assert ask(half, apart, pair(0), pair(1), mistakes=known).message == "one is detached"
    assert ask(lambda a, b: sum((a - b).flatten() ** 2) / a.numel(), apart, pair(0), pair(1))
    assert ask(lambda a, b: float((a - b).square().mean()), lambda a, b: apart(a, b).item(), pair(0), pair(1))


def test_gradients_of_named_terms_lists_and_models(ask):
    def terms(one, two):
        return {"push": -apart(one, two), "pull": apart(one, -two)}

    assert ask(lambda a, b: {"pull": apart(a, -b), "push": -apart(a, b)}, terms, pair(0), pair(1))
    assert not ask(lambda a, b: {"pull": apart(a, -b).detach(), "push": -apart(a, b)}, terms, pair(0), pair(1))
    rows = lambda a, b: (a - b).square().mean(1)  # noqa: E731
    assert ask(lambda a, b: [row.square().mean() for row in a - b], rows, pair(0), pair(1))
    layer = torch.nn.Linear(3, 2)
    cases = [(layer, torch.ones(1, 3)), (layer, torch.zeros(2, 3))]
    assert ask(lambda model, x: x @ model.weight.T + model.bias, lambda model, x: model(x), *cases)
    assert not ask(lambda model, x: x @ model.weight.T + model.bias.detach(), lambda model, x: model(x), *cases)


# --- chance and prints ---------------------------------------------------------------------------------------------


def test_draws_from_a_generator_that_is_passed(ask):
    def draws(rng, n):
        return rng.normal(size=n)

    cases = [(np.random.default_rng(0), 3), (np.random.default_rng(1), 2)]
    assert ask(lambda rng, n: rng.standard_normal(n), draws, *cases)
    assert "shape" in ask(lambda rng, n: rng.normal(size=1), draws, *cases).message
    both = [(torch.Generator().manual_seed(seed), 3) for seed in (0, 1)]
    assert ask(lambda g, n: torch.rand(n, generator=g), lambda g, n: torch.rand(n, generator=g), *both)
    assert not ask(lambda g, n: torch.rand(n), lambda g, n: torch.rand(n, generator=g), *both)


def test_common_generators_are_seeded_and_put_back(ask):
    torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
    expected = torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002
    torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
    drop = lambda x: torch.nn.functional.dropout(x, 0.5)  # noqa: E731
    assert ask(drop, drop, torch.ones(50), torch.ones(60))
    assert ask(lambda x: np.random.rand() + random.random(), lambda x: np.random.rand() + random.random(), 1, 2)  # noqa: NPY002
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected  # noqa: NPY002


def test_chance_without_a_seed_is_named(ask):
    verdict = ask(lambda x: x.sum() + np.random.default_rng().normal(), total, ONE, TWO)
    assert verdict.status == "wrong" and "two different values" in verdict.message
    once = cache(lambda: Counter())()

    def counts(x):
        once["calls"] += 1
        return once["calls"]

    assert "two different values" in ask(counts, total, ONE, TWO).message


def test_prints_are_shown_and_cut(ask, capsys):
    def talks(x):
        print("the sum is", x.sum().item())
        return x.sum()

    assert ask(talks, total, ONE, TWO)
    assert capsys.readouterr().out == "the sum is 15.0\nthe sum is 4.0\n"

    def chats(x):
        for i in range(2000):
            print(i)
        return x.sum()

    assert ask(chats, total, ONE, TWO)
    assert len(capsys.readouterr().out) < 2200


def test_printing_without_end_is_stopped(ask, capsys):
    def loops(x):
        while True:
            print(x)

    began = time.perf_counter()
    verdict = ask(loops, total, ONE, TWO)
    assert verdict.status == "wrong" and "a loop that does not end" in verdict.message
    assert len(capsys.readouterr().out) < 2200 and time.perf_counter() - began < 20


def test_warnings_are_not_the_students(ask, recwarn):
    divide = lambda x: np.array([1.0]) / np.array(x)  # noqa: E731
    assert ask(divide, divide, [0.0], [1.0], mistakes=[Mistake(lambda x: np.log(-1.0), "hint")])
    assert not recwarn.list


# --- the table of exercises ----------------------------------------------------------------------------------------


def test_an_unknown_exercise_names_those_there_are():
    with pytest.raises(XltError, match=r'Unknown exercise "embeding_push".* Did you mean "embedding_push"'):
        check("embeding_push", total)


def test_a_verdict_is_read_in_a_terminal_and_in_a_notebook(ask):
    verdict = ask(total, total, ONE, TWO)
    assert repr(verdict) == "Right. That is it." and verdict._repr_markdown_() == "**Right.** That is it."


def test_names_are_unique():
    assert not [name for name, count in Counter(names()).items() if count > 1]
    assert set(exercises.TOPICS) <= {path.stem for path in Path(exercises.__file__).parent.glob("*.py")}
