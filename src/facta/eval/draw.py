"""The common parts of all pictures of reports: axes, colours, marks, and the SVG of a page.

Pictures are narrow: a phone shows them at full size, a wide page several in a row. They have no legend (the page writes
one) and keep text as text. Drawing needs the extra `plot` (matplotlib).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from facta.errors import ConfigError

COLOURS = ("#0b6e99", "#d95f02", "#1b9e77", "#7b4fa3", "#c2185b", "#8c6d1f", "#4c4c4c", "#3f8fd0")
MARKERS, MARKS = "osD^vPXh", "●■◆▲▼✚✖⬢"
"""Marks of the entries of a report: matplotlib's name in pictures, a character in tables and legends."""

WIDTH_INCHES = 4.1  # inches of 96 CSS pixels: 394 px, the width of a phone
FEWEST_FOR_A_LINE = 3  # points; two points show no trend


@dataclass(frozen=True)
class Image:
    """One drawing, ready for <img>."""

    source: str  # a data: URL
    alt: str


@dataclass(frozen=True)
class Picture:
    """A section of the page: drawings under one heading, with one legend and one caption."""

    name: str
    images: Sequence[Image]
    caption: str
    legend: Sequence[tuple[str, str, str]] = ()  # (mark, colour, name)


def axes(height: float, title: str = "") -> tuple[Any, Any]:
    """A matplotlib figure and its axes, without pyplot's windows and global state. Raises ConfigError."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("The report draws with matplotlib: install it with pip install 'facta[plot]'.") from error
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#999999")
    axis.tick_params(colors="#333333", labelsize=9)
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_title(title, fontsize=10, color="#222222", loc="left")
    return figure, axis


def look(place: int, points: int = FEWEST_FOR_A_LINE) -> dict[str, Any]:
    """Colour, marker and line of entry number `place`; fewer than three points have no line."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 5,
        "linestyle": "-" if points >= FEWEST_FOR_A_LINE else "none",
    }


def mark(place: int) -> tuple[str, str]:
    """(character, colour) of entry number `place`, in tables and legends."""
    return MARKS[place % len(MARKS)], COLOURS[place % len(COLOURS)]


def legend(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """The legend of the entries, in order."""
    return [(*mark(place), name) for place, name in enumerate(names)]


def svg(figure: Any, alt: str) -> Image:
    """The drawing as SVG; equal drawings give equal bytes."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "facta", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Image(f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}", alt)
