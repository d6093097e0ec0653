"""What all pictures of reports share: axes, colours and marks, and the SVG that a page holds.

Pictures are narrow (a phone shows them at their own size, a wide page several beside each other), have no legend inside
(the page writes one) and keep their text as text. Drawing needs the extra `plot` (matplotlib).
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
"""Of the entries of a report: in pictures by matplotlib's name, in tables and legends as a character."""

WIDTH = 4.1  # inches of 96 CSS pixels: 394 px, the width of a phone
FEWEST_FOR_A_LINE = 3  # points; two days are two points and no trend


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
    """A matplotlib figure and its axes; made without pyplot: no window, no global state. Raises ConfigError."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("The report draws with matplotlib: install it with pip install 'facta[plot]'.") from error
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#999999")
    axis.tick_params(colors="#333333", labelsize=9)
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_title(title, fontsize=10, color="#222222", loc="left")
    return figure, axis


def look(place: int, points: int = FEWEST_FOR_A_LINE) -> dict[str, Any]:
    """Colour, marker and line of the entry in a place; fewer than three points have no line between them."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 5,
        "linestyle": "-" if points >= FEWEST_FOR_A_LINE else "none",
    }


def mark(place: int) -> tuple[str, str]:
    """(character, colour) of the entry in a place, in tables and legends."""
    return MARKS[place % len(MARKS)], COLOURS[place % len(COLOURS)]


def legend(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Of entries in their places."""
    return [(*mark(place), name) for place, name in enumerate(names)]


def svg(figure: Any, alt: str) -> Image:
    """The drawing as SVG, the same bytes for the same drawing."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "facta", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Image(f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}", alt)
