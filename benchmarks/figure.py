"""What a figure is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """What is measured; `bar` is an operator and a number or another figure's name, or "" where none is asked."""

    bar: str
    unit: str
    command: str
    what: str


ROOMS = ("quality", "speed", "service")
HERE = Path(__file__).parent


def module(call: str) -> str:
    """The command of a measurement, with its arguments."""
    name = call.split()[0]
    room = next(room for room in ROOMS if (HERE / room / f"{name}.py").exists())
    return f"python -m benchmarks.{room}.{call}"


def pair(name: str, bar: str, command: str, what: str) -> dict[str, Figure]:
    """NDCG@10, which has the bar, and HR@10 of the same runs."""
    return {
        f"{name}_ndcg10": Figure(bar, "NDCG@10", module(command), what),
        f"{name}_hr10": Figure("", "HR@10", module(command), "the same runs"),
    }
