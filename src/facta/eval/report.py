"""A static HTML page on rankers evaluated under one protocol: a table and pictures.

Pictures are SVG inside the page, so the page is one file. Drawing needs the extra `plot` (matplotlib).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facta import durable
from facta.data.dataset.dataset import Dataset
from facta.errors import ConfigError, ProtocolError, counted
from facta.eval.bootstrap import bootstrap_means, interval
from facta.eval.draw import COLOURS, Picture, axes, legend, look, svg
from facta.eval.page import Entry, Provenance, facts, page, table
from facta.eval.result import check_comparable

__all__ = ["Entry", "Provenance", "write_report"]

LENGTH_GROUPS = 6  # groups of users, by length of history


def write_report(
    path: Path | str,
    dataset: Dataset,
    entries: Sequence[Entry],
    *,
    metric: str = "NDCG@10",
    ks: Sequence[int] = (),
    title: str = "",
    provenance: Provenance = Provenance(),
) -> None:
    """Write the page. All entries must share protocol, stage and dataset; differences are to the first of them.

    `ks`: the list lengths of the table (default: that of `metric`). Raises ProtocolError for results that are not
    comparable, ConfigError without matplotlib or entries, and ResourceError if `path` cannot be written.
    """
    if not entries:
        raise ConfigError("A report needs at least one result; it was given none.")
    for entry in entries[1:]:
        check_comparable(entries[0].result, entry.result)
    if metric not in entries[0].result.values:
        raise ProtocolError(f"No metric '{metric}' in these results; they have {', '.join(entries[0].result.values)}.")
    pictures = [
        _validation_picture(entries, metric),
        _loss_picture(entries),
        _popularity_picture(entries, dataset),
        _length_picture(entries, metric),
    ]
    head = title or f"facta: {title_of([entry.name for entry in entries])}"
    described, tables = facts(dataset, entries), [table(entries, metric, ks)]
    text = page(head, described, tables, pictures, provenance)
    durable.file(Path(path), text.encode())


def title_of(names: Sequence[str]) -> str:
    """The title: the compared names."""
    if len(names) == 1:
        return names[0]
    return f"{names[0]} against {names[1]}" + (f" and {counted(len(names) - 2, 'other')}" if len(names) > 2 else "")


def _validation_picture(entries: Sequence[Entry], metric: str) -> Picture | None:
    validated = [validations(entry.lines, metric) for entry in entries]
    if not any(validated):
        return None
    figure, axis = axes(3.0)
    for place, (entry, points) in enumerate(zip(entries, validated, strict=True)):
        if points:
            epochs, values = np.array(points).T
            style = look(place, len(points))
            axis.plot(epochs, values, linewidth=1.8, **style | {"markersize": 3})
            at = np.flatnonzero(epochs == kept_epoch(entry.lines))  # empty: not in the journal
            axis.plot(epochs[at], values[at], **style | {"markersize": 9}, markerfacecolor="white", zorder=5)
    top = 1.08 * max(value for points in validated for _, value in points) or None
    axis.set(xlabel="epoch", ylabel=f"{metric} on validation", ylim=(0, top))
    _whole_ticks(axis)
    caption = "The large marker is the epoch of the artifact's weights."
    image = svg(figure, f"{metric} on validation by epoch")
    every = legend(entry.name for entry in entries)
    drawn = [line for line, points in zip(every, validated, strict=True) if points]  # counted models have no epochs
    return Picture("Validation while training", [image], caption, drawn)


def validations(lines: Sequence[Mapping[str, Any]], metric: str) -> list[tuple[int, float]]:
    """(epoch, value) of each validation of a run with a metric."""
    return [(line["epoch"], line[metric]) for line in lines if line["event"] == "validation" and metric in line]


def kept_epoch(lines: Sequence[Mapping[str, Any]]) -> int | None:
    """The epoch of the weights that a run kept; None if it is not in the journal.

    The run chooses by training.metric and training.keep and records it at each validation (`best`). A metric in the
    report may have its maximum at another epoch.
    """
    kept = [int(line["epoch"]) for line in lines if line["event"] == "validation" and line.get("best")]
    return kept[-1] if kept else None


def _loss_picture(entries: Sequence[Entry]) -> Picture | None:
    steps = [[line for line in entry.lines if line["event"] == "step"] for entry in entries]
    shown = [place for place, lines in enumerate(steps) if lines]
    if not shown:
        return None
    images = []
    for place in shown:
        figure, axis = axes(2.4, entries[place].name)
        loss = np.array([line["loss"] for line in steps[place]])
        epochs = np.arange(1, len(loss) + 1) * steps[place][-1]["epoch"] / len(loss)
        width = max(len(loss) // 60, 1)
        smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
        some = slice(None, None, max(len(loss) // 2000, 1))  # most points of a curve
        axis.plot(epochs[some], loss[some], color=COLOURS[place % len(COLOURS)], linewidth=0.5, alpha=0.3)
        middle = epochs[width // 2 :][: len(smooth)]
        axis.plot(middle[some], smooth[some], color=COLOURS[place % len(COLOURS)], linewidth=1.8)
        axis.set(xlabel="epoch", ylabel="loss")
        images.append(svg(figure, f"Training loss of {entries[place].name}"))
    caption = "Thin: steps; thick: running mean. Losses of different kinds have different scales."
    return Picture("Training loss", images, caption)


def _popularity_picture(entries: Sequence[Entry], dataset: Dataset) -> Picture:
    counts = np.bincount(dataset.item, minlength=dataset.num_items)
    rank = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")  # 0: the most popular item
    figure, axis = axes(3.4)
    some = np.unique(np.geomspace(1, dataset.num_items, 400).astype(np.int64)) - 1  # the axis is logarithmic
    log = np.cumsum(-np.sort(-counts)) / counts.sum()
    axis.plot(some + 1, log[some], color="black", linewidth=1.4, linestyle="--")
    for place, entry in enumerate(entries):
        listed = entry.result.lists[:, :10]
        share = np.cumsum(np.bincount(rank[listed[listed >= 0]], minlength=dataset.num_items)) / max(
            (listed >= 0).sum(), 1
        )
        axis.plot(some + 1, share[some], color=COLOURS[place % len(COLOURS)], linewidth=1.8)
    axis.set(xscale="log", xlim=(1, dataset.num_items), ylim=(0, 1.01), xlabel="the n most popular items of the log")
    axis.set_ylabel("share of events,\nof first ten recommendations")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.grid(axis="x", color="#f0f0f0", linewidth=0.8)
    names = [("╌", "#000000", "the log"), *legend(entry.name for entry in entries)]
    caption = "A line above the log's: popular items are recommended more often than they occur; below it: less often."
    image = svg(figure, "Share of the n most popular items")
    return Picture("Popularity of recommended items", [image], caption, names)


def _length_picture(entries: Sequence[Entry], metric: str) -> Picture:
    history = entries[0].result.history
    edges = np.unique(np.quantile(history, np.linspace(0, 1, LENGTH_GROUPS + 1)[1:-1]))
    group = np.searchsorted(edges, history, side="left")
    groups = np.unique(group)
    figure, axis = axes(3.2)
    for place, entry in enumerate(entries):
        values = [entry.result.values[metric][group == one] for one in groups]
        means = [float(one.mean()) for one in values]
        ends = np.array([interval(bootstrap_means(one[:, None])[:, 0]) for one in values])
        places = np.arange(len(groups)) + (place - (len(entries) - 1) / 2) * 0.8 / (len(entries) + 1)
        axis.vlines(places, ends[:, 0], ends[:, 1], color=COLOURS[place % len(COLOURS)], linewidth=4, alpha=0.3)
        axis.plot(places, means, linewidth=0.8, **look(place, len(groups)))
    ranges = [(int(history[group == one].min()), int(history[group == one].max())) for one in groups]
    names = [f"{low:,}" if low == high else f"{low:,} –\n{high:,}" for low, high in ranges]
    axis.set_xticks(np.arange(len(groups)), names)
    axis.set(xlabel="visible events in the user's history", ylabel=metric, ylim=(0, None))
    caption = (
        f"Means with 95 % intervals over the users of each group; groups of {_counts(group, groups)} users, from short "
        "to long."
    )
    image = svg(figure, f"{metric} by length of history")
    return Picture(f"{metric} by length of history", [image], caption, legend(entry.name for entry in entries))


def _counts(group: Any, groups: Any) -> str:
    return ", ".join(f"{int((group == one).sum()):,}" for one in groups)


def _whole_ticks(axis: Any) -> None:
    """Integer ticks for epochs."""
    axis.xaxis.get_major_locator().set_params(integer=True)
