"""Numbers with their units, for the tables that the benchmarks write."""

from __future__ import annotations


def seconds(value: float) -> str:
    """Write a duration with three digits, below a second in milliseconds."""
    number, unit = (value, "s") if value >= 1 else (value * 1000, "ms")
    decimals = 0 if number >= 100 else 1 if number >= 10 else 2
    return f"{number:,.{decimals}f} {unit}"


def megabytes(value: float) -> str:
    """Write an amount of memory in MB of 2**20 bytes."""
    return f"{value:,.0f} MB" if value >= 10 else f"{value:.1f} MB"
