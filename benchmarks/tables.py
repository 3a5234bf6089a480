"""Numbers and tables as Markdown, for the pages that the benchmarks write."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column is text and whose other columns are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def seconds(value: float) -> str:
    """Write a duration with three digits, below a second in milliseconds."""
    number, unit = (value, "s") if value >= 1 else (value * 1000, "ms")
    decimals = 0 if number >= 100 else 1 if number >= 10 else 2
    return f"{number:,.{decimals}f} {unit}"


def megabytes(value: float) -> str:
    """Write an amount of memory in MB of 2**20 bytes."""
    return f"{value:,.0f} MB" if value >= 10 else f"{value:.1f} MB"
