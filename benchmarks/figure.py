"""What a figure is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """What is measured; `bar` is an operator and a number or another figure's name, or "" where none is asked."""

    bar: str
    unit: str
    command: str
    what: str


def module(name: str) -> str:
    """The command of a measurement."""
    return f"python -m benchmarks.{name}"
