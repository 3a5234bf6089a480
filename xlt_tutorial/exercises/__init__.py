"""Checks of a student's function against the package's own, with a hint for each typical mistake.

``check("attention_pull", my_function)`` calls both on hidden cases. The exercises stand in modules by topic, each with
its answers, cases and mistakes; a mistake is a function too, so a wrong answer is known by what it returns.
"""

from __future__ import annotations

import copy
import dis
import importlib
import inspect
import io
import random
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from types import CodeType
from typing import Any

import numpy as np
import torch

from xlt_tutorial.errors import unknown
from xlt_tutorial.exercises.values import difference, factor, plain, same, tensors

# Modules of this folder, each with a table EXERCISES by name.
TOPICS = ("gap", "scores", "losses", "swaps", "alignment", "robust", "training", "maps", "benchmarks")

DOTS = "Replace the dots with your code and run this cell again."
IN_PLACE = "It changes its arguments in place; the caller still needs them. Work on new tensors, arrays or lists."
CHANCE = (
    "Called twice with the same arguments, it returns two different values. Draw from the generator that was passed "
    "in, or from one with a fixed seed."
)
SHOWN, ENDLESS = 2_000, 100_000  # characters that a function under check may print before it is cut, and stopped


@dataclass(frozen=True)
class Case:
    """One call: its arguments, and ``what`` it tries, in words that follow "For ...": "a batch of one"."""

    what: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Mistake:
    """A typical wrong answer, and the hint for who gives it."""

    function: Callable[..., Any]
    hint: str


@dataclass(frozen=True)
class Exercise:
    """What a check needs.

    Attributes:
        answer: The package's own function, or a few lines around it.
        cases: Returns the calls; at least two, so that no constant passes. Where the answer carries a gradient, the
            gradients of all tensors among the arguments that want one are compared too.
        mistakes: Typical wrong answers. The first that returns what the student's function returns gives the hint.
        praise: One sentence for the right answer: what it is good for, where the package has it.
        tolerance: Relative to each number; a hundredth of it relative to the largest number of an array.
    """

    answer: Callable[..., Any]
    cases: Callable[[], Sequence[Case]]
    mistakes: tuple[Mistake, ...]
    praise: str
    tolerance: float = 1e-4


@dataclass(frozen=True)
class Verdict:
    """What ``check`` found. ``status`` is ``right``, ``wrong`` or ``unfinished``; a notebook shows its message."""

    status: str
    message: str

    def __bool__(self) -> bool:
        return self.status == "right"

    def __repr__(self) -> str:
        return f"{self.status.capitalize()}. {self.message}"

    def _repr_markdown_(self) -> str:
        return f"**{self.status.capitalize()}.** {self.message}"


def names() -> list[str]:
    """Return the names of all exercises."""
    return [name for topic in TOPICS for name in _table(topic)]


def exercise(name: str) -> Exercise:
    """Return an exercise by name, or raise ``XltError`` with the names there are."""
    for topic in TOPICS:
        if name in (table := _table(topic)):
            return table[name]
    raise unknown("exercise", name, names())


def check(name: str, function: Callable[..., Any]) -> Verdict:
    """Compare a student's function with the package's own on hidden cases.

    Args:
        name: Of the exercise.
        function: The student's. It is called on copies, so it cannot spoil anything; what it raises is told, not
            raised. Global random generators are seeded for each call and put back afterwards.

    Returns:
        A verdict whose message says what is right, what is missing, or the hint for the mistake made.

    Raises:
        XltError: There is no exercise of that name.
    """
    task = exercise(name)
    if function is ... or _has_dots(function):
        return Verdict("unfinished", DOTS)
    if not callable(function):
        return Verdict("wrong", f"Give the function itself, without calling it: `check({name!r}, my_function)`.")
    cases, found = list(task.cases()), []
    wanted = [_call(task.answer, case).or_raise() for case in cases]
    with redirect_stdout(_Cut(sys.stdout)):
        for case, right in zip(cases, wanted, strict=True):
            given = _call(function, case)
            if (verdict := _unusable(function, case, given, right)) is not None:  # a verdict is false unless right
                return verdict
            found.append(given)
    fits = [given.same(right, task.tolerance) for given, right in zip(found, wanted, strict=True)]
    if all(fits):
        return Verdict("right", task.praise)
    for mistake in task.mistakes:
        made = (_call(mistake.function, case) for case in cases)
        if all(given.same(wrong, task.tolerance) for given, wrong in zip(found, made, strict=True)):
            return Verdict("wrong", mistake.hint)
    at = fits.index(False)
    with redirect_stdout(io.StringIO()):
        again = _call(function, cases[at])
    if not same(again.value, found[at].value, task.tolerance):
        return Verdict("wrong", CHANCE)
    good = [case.what for case, fit in zip(cases, fits, strict=True) if fit]
    already = f" Already right: {'; '.join(good)}." if good else ""
    return Verdict("wrong", _unexplained(cases[at], found, wanted, at, task.tolerance) + already)


@dataclass(frozen=True)
class _Outcome:
    """What a function did with a case."""

    value: Any = None
    gradients: tuple[torch.Tensor, ...] = ()  # of what its arguments hold and a gradient is wanted for
    error: Exception | None = None
    spoiled: bool = False  # its arguments were changed

    def or_raise(self) -> _Outcome:
        if self.error is not None:
            raise self.error
        return self

    def same(self, wanted: _Outcome, tolerance: float) -> bool:
        if wanted.error is not None or not same(self.value, wanted.value, tolerance):
            return False
        return not wanted.gradients or same(self.gradients, wanted.gradients, tolerance)


def _call(function: Callable[..., Any], case: Case) -> _Outcome:
    given = copy.deepcopy((case.args, dict(case.kwargs)))
    with _seeded():
        try:
            value = function(*given[0], **given[1])
            gradients = _gradients(value, given)
        except Exception as error:  # the student's code may raise anything
            return _Outcome(error=error)
    return _Outcome(value, gradients, spoiled=_changed(given, (case.args, dict(case.kwargs))))


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed the generators that all code shares, silence warnings, and put everything back."""
    legacy, own = np.random.get_state(), random.getstate()  # noqa: NPY002 - the student may use it
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        try:
            yield
        finally:
            np.random.set_state(legacy)  # noqa: NPY002
            random.setstate(own)


def _gradients(value: Any, given: Any) -> tuple[torch.Tensor, ...]:
    """Return the gradients of a sum of all numbers of the value, each with a weight of its own."""
    leaves = [leaf for leaf in tensors(list(given)) if leaf.requires_grad]
    parts = [part.flatten().double() for part in tensors(value) if part.requires_grad]
    if not leaves or not parts:
        return ()
    numbers = torch.cat(parts)
    total = (numbers * torch.linspace(1, 2, len(numbers), dtype=numbers.dtype)).sum()
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    return tuple(torch.zeros_like(leaf) if one is None else one for leaf, one in zip(leaves, found, strict=True))


def _changed(after: Any, before: Any) -> bool:
    """Return whether numbers, texts or containers changed; generators and models may."""
    if isinstance(before, Mapping):
        return after.keys() != before.keys() or any(_changed(after[key], before[key]) for key in before)
    if isinstance(before, list | tuple):
        return len(after) != len(before) or any(map(_changed, after, before))
    if type(after) is not type(before):
        return True
    if isinstance(before, str | set):
        return bool(after != before)
    return isinstance(plain(before), np.ndarray) and not same(after, before, 0.0)


def _unusable(function: Callable[..., Any], case: Case, given: _Outcome, right: _Outcome) -> Verdict | None:
    """Return the verdict on what cannot be compared, ``None`` where it can."""
    if given.error is not None:
        if isinstance(given.error, NotImplementedError) or "ellipsis" in str(given.error).lower():
            return Verdict("unfinished", DOTS)
        return Verdict("wrong", _stopped(function, case, given.error))
    if given.value is ... or (given.value is None and right.value is not None):
        return Verdict("unfinished", f"For {case.what} the function returns nothing: end it with `return ...`.")
    if isinstance(given.value, Iterator):
        return Verdict(
            "wrong", f"It returns a {type(given.value).__name__}, which is used up by reading: make it a list."
        )
    if given.spoiled:
        return Verdict("wrong", IN_PLACE)
    if right.gradients and not given.gradients:
        return Verdict(
            "wrong",
            "The value carries no gradient, so nothing would be trained by it: leave out .item(), .detach(), NumPy "
            "and torch.no_grad().",
        )
    return None


def _stopped(function: Callable[..., Any], case: Case, error: Exception) -> str:
    """Say what a function raised and in which of its lines, without a traceback."""
    if isinstance(error, RuntimeError) and "in-place operation" in str(error):
        return IN_PLACE
    code = _code(function)
    lines = traceback.extract_tb(error.__traceback__)
    line = next((one.line for one in reversed(lines) if code and one.filename == code.co_filename and one.line), None)
    if isinstance(error, TypeError) and line is None:
        try:
            inspect.signature(function).bind(*case.args, **case.kwargs)
        except TypeError as wrong:
            many = len(case.args) + len(case.kwargs)
            called = f"It is called with {many} argument{'s' * (many != 1)} ({wrong})"
            return f"{called}: keep the arguments of the exercise, in their order."
        except ValueError:  # no signature is known
            pass
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ").replace("`", "'")
    text = f"For {case.what} it stops with `{text if len(text) <= 240 else text[:237] + '...'}`"
    return text + (f" in the line `{line.replace('`', chr(39))}`." if line else ".")


def _unexplained(case: Case, found: list[_Outcome], wanted: list[_Outcome], at: int, tolerance: float) -> str:
    """Say what is wrong where no mistake fits."""
    given, right = found[at], wanted[at]
    if same(given.value, right.value, tolerance):
        return (
            f"For {case.what} the value is right and its gradient is not, so it would train something else. "
            "Look for .detach(), .item(), rounding, and what is taken out of a tensor and put back."
        )
    by = factor([one.value for one in found], [one.value for one in wanted])
    always = f" In all cases it is {by:.4g} times what it should be." if by is not None else ""
    return f"For {case.what} it returns {difference(given.value, right.value, tolerance)}.{always}"


def _has_dots(function: Callable[..., Any]) -> bool:
    """Return whether the body holds nothing but dots below its docstring, or gives or returns the dots as a value."""
    code = _code(function)
    if code is None:
        return False
    steps = [
        step
        for step in dis.get_instructions(code)
        if step.opname not in {"RESUME", "NOP", "COPY_FREE_VARS", "MAKE_CELL"}
    ]
    nothing = {"LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "POP_TOP"}
    if all(step.opname in nothing and (step.argval is None or step.argval is ...) for step in steps):
        return True
    return any(
        step.argval is ...
        and (step.opname == "RETURN_CONST" or after.opname.startswith(("STORE_FAST", "STORE_DEREF", "RETURN_VALUE")))
        for step, after in zip(steps, [*steps[1:], steps[-1]], strict=True)
    )


def _code(function: Any) -> CodeType | None:
    """Return the code of a function, method, partial, decorated function, module or object that can be called."""
    while isinstance(function, partial):
        function = function.func
    if not callable(function):
        return None
    function = inspect.unwrap(function)
    for one in (function, getattr(function, "forward", None), type(function).__call__):
        if isinstance(code := getattr(one, "__code__", None), CodeType):
            return code
    return None


class _Cut(io.TextIOBase):
    """Passes on what a function prints until it is too much, and stops what would print for ever."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.count = stream, 0

    def write(self, text: str) -> int:
        room = SHOWN - self.count
        self.count += len(text)
        if room > 0:
            self.stream.write(text if len(text) <= room else text[:room] + " ...\n")
        if self.count > ENDLESS:
            raise RuntimeError(f"it prints more than {ENDLESS:,} characters; is there a loop that does not end?")
        return len(text)

    def flush(self) -> None:
        self.stream.flush()


def _table(topic: str) -> dict[str, Exercise]:
    table: dict[str, Exercise] = importlib.import_module(f"{__name__}.{topic}").EXERCISES
    return table
