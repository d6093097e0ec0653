"""The report on predicted feedback: tables, and pictures by time, history length and calibration.

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
from facta.data.dataset.dataset import Dataset
from facta.errors import ConfigError, ProtocolError
from facta.eval.alarms import alarms
from facta.eval.bootstrap import interval
from facta.eval.draw import FEWEST_FOR_A_LINE, Picture, axes, legend, look, svg
from facta.eval.feedback_metrics import RESAMPLED, entropy, losses, resampled_ne
from facta.eval.page import Provenance, page, prediction_facts, prediction_tables
from facta.eval.predictions import Predictions, check_same_events
from facta.eval.report import LENGTH_GROUPS, title_of
from facta.eval.value_metrics import COMPARED_VALUES

DAY_MS = 86_400_000  # milliseconds
MOST_DAYS = 31  # with more days, several form a group
MOST_LABELS = 6  # labels of days on an axis
INTERVAL_DRAWS = 200  # bootstrap draws for an interval in a picture
FEWEST_EVENTS = 10  # least events of either outcome in a group


def write_feedback_report(
    path: Path | str,
    dataset: Dataset,
    found: Mapping[str, Predictions],
    *,
    metrics: Sequence[str] = ("NE", "GAUC"),
    title: str = "",
    provenance: Provenance = Provenance(),
) -> None:
    """Write the page. All predictions must be of the same events; differences in `metrics` are to the first of them.

    Raises ProtocolError for predictions that are not comparable or have no observed outcome, ConfigError without
    matplotlib or predictions, and ResourceError if `path` cannot be written.
    """
    if not found:
        raise ConfigError("A report needs the predictions of at least one model; it was given none.")
    first, *others = found.values()
    for other in others:
        check_same_events(first, other)
    if unknown := [metric for metric in metrics if metric not in (*RESAMPLED, *COMPARED_VALUES)]:
        known = (*RESAMPLED, *(COMPARED_VALUES if first.expected else ()))
        raise ProtocolError(f"No metric '{unknown[0]}' to compare in; expected: {', '.join(known)}.")
    drawn = _defined(found)
    pictures = [_days_picture(drawn), _calibration_picture(drawn), _history_picture(drawn)]
    text = page(
        title or f"facta: {title_of(list(found))}",
        prediction_facts(dataset, [*found.values()]),
        prediction_tables(found, metrics),
        pictures if first.p and next(iter(drawn.values())).p else [],
        provenance,
        [f"{name}, {text}" for name, one in found.items() for text in alarms(one.means, one.intervals)],
    )
    durable.file(Path(path), text.encode())


def _defined(found: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """The predictions of fields that at least one event defines; others cannot be drawn."""
    first = next(iter(found.values()))
    fields = [field for field in first.p if (first.y[field] >= 0).any()]
    if not fields and not any((~np.isnan(values)).any() for values in first.observed.values()):
        raise ProtocolError(
            f"Found {', '.join((*first.p, *first.expected)) or 'no field'} predicted, and no event of this stage with "
            "its outcome: report on another stage, or declare which values are positive when the log is "
            "prepared."
        )
    return {name: replace(one, p={field: one.p[field] for field in fields}) for name, one in found.items()}


def _days_picture(found: Mapping[str, Predictions]) -> Picture | None:
    first = next(iter(found.values()))
    if first.time is None or not first.p:
        return None
    day = first.time // DAY_MS
    together = -(-int(day.max() - day.min() + 1) // MOST_DAYS)
    group = (day - day.min()) // together
    dates = (day.min() + np.arange(group.max() + 1) * together).astype("datetime64[D]")
    images = []
    for field in first.p:
        figure, axis = axes(2.8, field)
        for place, one in enumerate(found.values()):
            groups, mean, ends = _by_group(one, field, group)
            style = look(place, len(groups))
            if len(groups) >= FEWEST_FOR_A_LINE:
                axis.fill_between(dates[groups], ends[:, 0], ends[:, 1], color=style["color"], alpha=0.15, linewidth=0)
            else:
                axis.vlines(dates[groups], ends[:, 0], ends[:, 1], color=style["color"], linewidth=4, alpha=0.3)
            axis.plot(dates[groups], mean, linewidth=1.4, **style)
        shown = dates[:: -(-len(dates) // MOST_LABELS)]
        axis.set_xticks(shown, [str(one) for one in shown], rotation=30, ha="right", fontsize=9)
        axis.set_ylabel("NE")
        axis.axhline(1.0, color="#999999", linewidth=1, linestyle="--")
        images.append(svg(figure, f"NE({field}) by day"))
    span = "a day (UTC)" if together == 1 else f"{together} days (UTC)"
    caption = f"Each point is {span}, against the base rate of its own events (dashed: that alone); 95 % over users."
    return Picture("NE by day", images, caption, legend(found))


def _calibration_picture(found: Mapping[str, Predictions]) -> Picture | None:
    first, images = next(iter(found.values())), []
    for field in first.p:
        figure, axis = axes(3.6, field)
        top = 0.0
        for place, one in enumerate(found.values()):
            bins = one.calibration(field)
            axis.plot(bins.predicted, bins.observed, linewidth=1.2, **look(place, len(bins.size)))
            top = max(top, float(bins.predicted.max()), float(bins.observed.max()))
        top = min(1.0, 1.05 * top)
        axis.plot([0, top], [0, top], color="#999999", linewidth=1, linestyle="--", zorder=0)
        axis.set(xlabel="predicted", ylabel="observed share", xlim=(0, top), ylim=(0, top), aspect="equal")
        images.append(svg(figure, f"Predicted and observed share of {field}"))
    caption = "Bins of equally many events. On the dashed line predicted and observed shares agree."
    return Picture("Calibration", images, caption, legend(found)) if images else None


def _history_picture(found: Mapping[str, Predictions]) -> Picture | None:
    first, images = next(iter(found.values())), []
    edges = np.unique(np.quantile(first.place, np.linspace(0, 1, LENGTH_GROUPS + 1)[1:-1], method="lower"))
    group = np.searchsorted(edges, first.place, side="left")
    for field in first.p:
        figure, axis = axes(3.0, field)
        for place, one in enumerate(found.values()):
            groups, mean, ends = _by_group(one, field, group)
            style = look(place, len(groups))
            at = groups + (place - (len(found) - 1) / 2) * 0.8 / (len(found) + 1)
            axis.vlines(at, ends[:, 0], ends[:, 1], color=style["color"], linewidth=4, alpha=0.3)
            axis.plot(at, mean, linewidth=0.8, **style)
        axis.set_xticks(*_ranges(first.place, group), fontsize=9)
        axis.set(xlabel="events of the user before", ylabel="NE")
        axis.axhline(1.0, color="#999999", linewidth=1, linestyle="--")
        images.append(svg(figure, f"NE({field}) by events of history"))
    caption = (
        "By events of the user before the predicted one, those that a frozen state does not see included; groups of "
        "about equally many; 95 % over users."
    )
    return Picture("NE by events of history", images, caption, legend(found)) if images else None


def _by_group(one: Predictions, field: str, group: Ints) -> tuple[Ints, Floats, NDArray[Any]]:
    """[G] groups with enough events of both outcomes, [G] their NE, [G, 2] its intervals; `group` [S] of each."""
    defined = one.y[field] >= 0
    p, y, user, group = one.p[field][defined], one.y[field][defined] == 1, one.user[defined], group[defined]
    groups, means, ends = [], [], []
    for each in np.unique(group):
        own = group == each
        if min(y[own].sum(), (~y[own]).sum()) >= FEWEST_EVENTS:
            groups.append(int(each))
            means.append(float(losses(p[own], y[own]).mean()) / entropy(float(y[own].mean())))
            ends.append(interval(resampled_ne(p[own], y[own], user[own], INTERVAL_DRAWS)))
    return np.array(groups, dtype=np.int64), np.array(means), np.array(ends).reshape(-1, 2)


def _ranges(place: Ints, group: Ints) -> tuple[Ints, list[str]]:
    """Groups and their labels."""
    groups = np.unique(group)
    ends = [(int(place[group == one].min()), int(place[group == one].max())) for one in groups]
    return groups, [f"{low:,}" if low == high else f"{low:,} –\n{high:,}" for low, high in ends]
