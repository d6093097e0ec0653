"""The report on predicted feedback: a table, and when, for whom and how far what a model says may be believed.

Letters: S events, G groups of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facta import durable
from facta.arrays import Floats, Ints
from facta.data.histories import Dataset
from facta.errors import ConfigError, ProtocolError
from facta.eval.bootstrap import interval
from facta.eval.page import page, prediction_facts, prediction_table
from facta.eval.prediction import RESAMPLED, entropy, losses, resampled_ne
from facta.eval.predictions import Predictions, check_same_events
from facta.eval.report import BINS, figure, legend, look, png

DAY = 86_400_000  # milliseconds
MOST_DAYS = 31  # beyond, several days are one group
MOST_LABELS = 6  # of days, on an axis
DRAWS = 200  # of users, for an interval in a picture
FEWEST = 10  # events of either outcome that a group has to hold


def write_feedback_report(
    path: Path | str,
    dataset: Dataset,
    found: Mapping[str, Predictions],
    *,
    metrics: Sequence[str] = ("NE", "GAUC"),
    title: str = "facta",
) -> None:
    """Write the page. All predictions must be of the same events; differences in `metrics` are to the first of them.

    Raises ProtocolError for predictions that may not stand side by side or have nothing to be judged by, ConfigError
    without matplotlib or predictions, and ResourceError where `path` cannot be written.
    """
    if not found:
        raise ConfigError("A report needs the predictions of at least one model; it was given none.")
    first, *others = found.values()
    for other in others:
        check_same_events(first, other)
    if unknown := [metric for metric in metrics if metric not in RESAMPLED]:
        raise ProtocolError(f"No metric '{unknown[0]}' to compare in; expected: {', '.join(RESAMPLED)}.")
    drawn = _defined(found)
    pictures = [
        ("NE by day", _days_picture(drawn)),
        ("Calibration", _calibration_picture(drawn)),
        ("NE by events of history", _history_picture(drawn)),
    ]
    text = page(title, prediction_facts(dataset, first), prediction_table(found, metrics), pictures)
    durable.file(Path(path), text.encode())


def _defined(found: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """The same of the fields that some event defines: of the others there is nothing to draw."""
    first = next(iter(found.values()))
    fields = [field for field in first.p if (first.y[field] >= 0).any()]
    if not fields:
        raise ProtocolError(
            f"Found {', '.join(first.p) or 'no field'} predicted, and no event of this stage that says what success "
            "is: report on another stage, or declare which values are positive when the log is prepared."
        )
    return {name: replace(one, p={field: one.p[field] for field in fields}) for name, one in found.items()}


def _days_picture(found: Mapping[str, Predictions]) -> str:
    """Nothing without times."""
    first = next(iter(found.values()))
    if first.time is None:
        return ""
    day = first.time // DAY
    together = -(-int(day.max() - day.min() + 1) // MOST_DAYS)
    group = (day - day.min()) // together
    dates = (day.min() + np.arange(group.max() + 1) * together).astype("datetime64[D]")
    picture, axes = _panels(found, "NE")
    for axis, field in zip(axes, first.p, strict=True):
        for place, (name, one) in enumerate(found.items()):
            groups, mean, ends = _by_group(one, field, group)
            axis.fill_between(
                dates[groups], ends[:, 0], ends[:, 1], color=look(place)["color"], alpha=0.15, linewidth=0
            )
            axis.plot(dates[groups], mean, label=name, linewidth=1.4, **look(place))
        shown = dates[:: -(-len(dates) // MOST_LABELS)]
        axis.set_xticks(shown, [str(one) for one in shown], rotation=25, fontsize=8)
        axis.axhline(1.0, color="#999999", linewidth=1, linestyle="--")
    legend(axes[0])
    span = "a day (UTC)" if together == 1 else f"{together} days (UTC)"
    return png(
        picture,
        f"Each point is {span}, against the base rate of its own events (dashed: that alone); bands: 95 % over users.",
    )


def _calibration_picture(found: Mapping[str, Predictions]) -> str:
    first = next(iter(found.values()))
    picture, axes = _panels(found, "observed share", height=3.6)
    for axis, field in zip(axes, first.p, strict=True):
        top = 0.0
        for place, (name, one) in enumerate(found.items()):
            bins = one.calibration(field)
            axis.plot(bins.predicted, bins.observed, label=name, linewidth=1.2, **look(place))
            top = max(top, float(bins.predicted.max()), float(bins.observed.max()))
        top = min(1.0, 1.05 * top)
        axis.plot([0, top], [0, top], color="#999999", linewidth=1, linestyle="--", zorder=0)
        axis.set(xlabel="predicted", xlim=(0, top), ylim=(0, top), aspect="equal")
    legend(axes[0])
    return png(picture, "Bins of equally many events. On the dashed line, what is called probable happens as often.")


def _history_picture(found: Mapping[str, Predictions]) -> str:
    first = next(iter(found.values()))
    edges = np.unique(np.quantile(first.place, np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
    group = np.searchsorted(edges, first.place, side="left")
    picture, axes = _panels(found, "NE")
    for axis, field in zip(axes, first.p, strict=True):
        for place, (name, one) in enumerate(found.items()):
            groups, mean, ends = _by_group(one, field, group)
            at = groups + (place - (len(found) - 1) / 2) * 0.8 / (len(found) + 1)
            axis.vlines(at, ends[:, 0], ends[:, 1], color=look(place)["color"], linewidth=4, alpha=0.3)
            axis.plot(at, mean, label=name, linewidth=0.8, **look(place))
        axis.set_xticks(*_ranges(first.place, group), fontsize=8)
        axis.set_xlabel("events of the user before")
        axis.axhline(1.0, color="#999999", linewidth=1, linestyle="--")
    legend(axes[0])
    return png(
        picture,
        "By events of the user before the one predicted, also those that a frozen state is not told; groups of about "
        "equally many; 95 % over users.",
    )


def _panels(found: Mapping[str, Predictions], ylabel: str, height: float = 3.0) -> tuple[Any, Any]:
    """One for each field."""
    fields = list(next(iter(found.values())).p)
    picture, axes = figure(height, len(fields))
    for axis, field in zip(axes, fields, strict=True):
        axis.set_title(field, fontsize=10, color="#222222", loc="left")
    axes[0].set_ylabel(ylabel)
    return picture, axes


def _by_group(one: Predictions, field: str, group: Ints) -> tuple[Ints, Floats, NDArray[Any]]:
    """[G] groups with enough events of both outcomes, [G] their NE, [G, 2] its intervals; `group` [S] of each."""
    defined = one.y[field] >= 0
    p, y, user, group = one.p[field][defined], one.y[field][defined] == 1, one.user[defined], group[defined]
    groups, means, ends = [], [], []
    for each in np.unique(group):
        own = group == each
        if min(y[own].sum(), (~y[own]).sum()) >= FEWEST:
            groups.append(int(each))
            means.append(float(losses(p[own], y[own]).mean()) / entropy(float(y[own].mean())))
            ends.append(interval(resampled_ne(p[own], y[own], user[own], DRAWS)))
    return np.array(groups, dtype=np.int64), np.array(means), np.array(ends).reshape(-1, 2)


def _ranges(place: Ints, group: Ints) -> tuple[Ints, list[str]]:
    """Groups, and what to write under each."""
    groups = np.unique(group)
    ends = [(int(place[group == one].min()), int(place[group == one].max())) for one in groups]
    return groups, [f"{low:,}" if low == high else f"{low:,} –\n{high:,}" for low, high in ends]
