"""One static HTML page about rankers that were judged under one protocol: a table, and pictures of what is behind it.

Pictures are PNG inside the page, so that it can be mailed as it is. Drawing needs the extra `plot` (matplotlib).
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facta import durable
from facta.data.histories import Dataset
from facta.errors import ConfigError, ProtocolError
from facta.eval.bootstrap import bootstrap_means, interval
from facta.eval.page import COLOURS, Entry, facts, page, table
from facta.eval.result import check_comparable

__all__ = ["Entry", "write_report"]

MARKERS = "osD^vPXh"
LEGEND_CHARACTERS = 130  # that fit into a line, a marker counted as 8
BINS = 6  # of users, by length of history


def write_report(
    path: Path | str, dataset: Dataset, entries: Sequence[Entry], *, metric: str = "NDCG@10", title: str = "facta"
) -> None:
    """Write the page. All entries must share protocol, stage and dataset; differences are to the first of them.

    Raises ProtocolError for results that may not stand side by side, ConfigError without matplotlib or entries, and
    ResourceError where `path` cannot be written.
    """
    if not entries:
        raise ConfigError("A report needs at least one result; it was given none.")
    for entry in entries[1:]:
        check_comparable(entries[0].result, entry.result)
    if metric not in entries[0].result.values:
        raise ProtocolError(f"No metric '{metric}' in these results; they have {', '.join(entries[0].result.values)}.")
    pictures = [
        ("Validation while training", _validation_picture(entries, metric)),
        ("Training loss", _loss_picture(entries)),
        ("Popularity of what is recommended", _popularity_picture(entries, dataset)),
        (f"{metric} by length of history", _length_picture(entries, metric)),
    ]
    text = page(title, facts(dataset, entries[0].result), table(entries, metric), pictures)
    durable.file(Path(path), text.encode())


def figure(height: float, panels: int = 1) -> tuple[Any, Any]:
    """A matplotlib figure and its axes, at most three in a row; made without pyplot: no window, no global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("The report draws with matplotlib: install it with pip install 'facta[plot]'.") from error
    columns, rows = min(panels, 3), -(-panels // 3)
    picture = Figure(figsize=(9.2, height * rows), dpi=160, layout="constrained")
    axes = picture.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[panels:]:
        spare.remove()
    for axis in axes[:panels]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color("#999999")
        axis.tick_params(colors="#444444", labelsize=9)
        axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axis.set_axisbelow(True)
    return picture, axes[:panels]


def legend(axis: Any) -> None:
    """Above the picture, where it covers nothing; as many columns as the names leave room for."""
    handles, names = axis.get_legend_handles_labels()
    columns = min(4, max(1, LEGEND_CHARACTERS // (max(map(len, names)) + 8)))
    axis.figure.legend(handles, names, frameon=False, fontsize=9, loc="outside upper left", ncols=columns)


def look(place: int) -> dict[str, Any]:
    """Colour and marker of an entry."""
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "markersize": 4.5}


def _validation_picture(entries: Sequence[Entry], metric: str) -> str:
    validated = [validations(entry.lines, metric) for entry in entries]
    if not any(validated):
        return ""
    picture, (axis,) = figure(3.4)
    for place, (entry, points) in enumerate(zip(entries, validated, strict=True)):
        if points:
            epochs, values = np.array(points).T
            axis.plot(epochs, values, label=entry.name, linewidth=1.8, **look(place) | {"markersize": 2.5})
            kept = kept_epoch(entry.lines)
            at = np.flatnonzero(epochs == kept)  # empty: the journal does not say
            axis.plot(epochs[at], values[at], **look(place) | {"markersize": 8}, markerfacecolor="white", zorder=5)
    axis.set(xlabel="epoch", ylabel=f"{metric} on validation", ylim=(0, None))
    legend(axis)
    return png(picture, "The large marker is the epoch whose weights the artifact has.")


def validations(lines: Sequence[Mapping[str, Any]], metric: str) -> list[tuple[int, float]]:
    """(epoch, value) of each validation of a run that measured a metric."""
    return [(line["epoch"], line[metric]) for line in lines if line["event"] == "validation" and metric in line]


def kept_epoch(lines: Sequence[Mapping[str, Any]]) -> int | None:
    """The epoch whose weights a run kept; None where its journal does not say.

    The run decides by training.metric and training.keep, and says so at each validation (`best`). The metric that a
    report shows may have its maximum elsewhere.
    """
    kept = [int(line["epoch"]) for line in lines if line["event"] == "validation" and line.get("best")]
    return kept[-1] if kept else None


def _loss_picture(entries: Sequence[Entry]) -> str:
    steps = [[line for line in entry.lines if line["event"] == "step"] for entry in entries]
    shown = [place for place, lines in enumerate(steps) if lines]
    if not shown:
        return ""
    picture, axes = figure(2.6, len(shown))
    for axis, place in zip(axes, shown, strict=True):
        loss = np.array([line["loss"] for line in steps[place]])
        epochs = np.arange(1, len(loss) + 1) * steps[place][-1]["epoch"] / len(loss)
        width = max(len(loss) // 60, 1)
        smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
        axis.plot(epochs, loss, color=COLOURS[place % len(COLOURS)], linewidth=0.5, alpha=0.3)
        axis.plot(epochs[width // 2 :][: len(smooth)], smooth, color=COLOURS[place % len(COLOURS)], linewidth=1.8)
        axis.set_title(entries[place].name, fontsize=10, color="#222222", loc="left")
        axis.set_xlabel("epoch")
    axes[0].set_ylabel("loss")
    return png(picture, "Thin: every step; thick: running mean. Losses of different kinds have different scales.")


def _popularity_picture(entries: Sequence[Entry], dataset: Dataset) -> str:
    counts = np.bincount(dataset.item, minlength=dataset.num_items)
    rank = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")  # 0: the most popular item
    picture, (axis,) = figure(3.8)
    places = np.arange(1, dataset.num_items + 1)
    axis.plot(
        places,
        np.cumsum(-np.sort(-counts)) / counts.sum(),
        color="black",
        linewidth=1.4,
        linestyle="--",
        label="the log",
    )
    for place, entry in enumerate(entries):
        listed = entry.result.lists[:, :10]
        share = np.cumsum(np.bincount(rank[listed[listed >= 0]], minlength=dataset.num_items)) / max(
            (listed >= 0).sum(), 1
        )
        axis.plot(places, share, label=entry.name, color=COLOURS[place % len(COLOURS)], linewidth=1.8)
    axis.set(xscale="log", xlim=(1, dataset.num_items), ylim=(0, 1.01), xlabel="the n most popular items of the log")
    axis.set_ylabel("their share of all events,\nof all first ten recommendations")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.grid(axis="x", color="#f0f0f0", linewidth=0.8)
    legend(axis)
    return png(picture, "A line above the log's recommends what is popular anyway; one below it, what is rare.")


def _length_picture(entries: Sequence[Entry], metric: str) -> str:
    history = entries[0].result.history
    edges = np.unique(np.quantile(history, np.linspace(0, 1, BINS + 1)[1:-1]))
    group = np.searchsorted(edges, history, side="left")
    groups = np.unique(group)
    picture, (axis,) = figure(3.4)
    for place, entry in enumerate(entries):
        values = [entry.result.values[metric][group == one] for one in groups]
        means = [float(one.mean()) for one in values]
        ends = np.array([interval(bootstrap_means(one[:, None])[:, 0]) for one in values])
        places = np.arange(len(groups)) + (place - (len(entries) - 1) / 2) * 0.8 / (len(entries) + 1)
        axis.vlines(places, ends[:, 0], ends[:, 1], color=COLOURS[place % len(COLOURS)], linewidth=5, alpha=0.3)
        axis.plot(places, means, label=entry.name, linewidth=0.8, **look(place))
    ranges = [(int(history[group == one].min()), int(history[group == one].max())) for one in groups]
    names = [f"{low:,}" if low == high else f"{low:,} – {high:,}" for low, high in ranges]
    axis.set_xticks(
        np.arange(len(groups)), [f"{n}\n{(group == g).sum():,} users" for n, g in zip(names, groups, strict=True)]
    )
    axis.set(xlabel="visible events in the user's history", ylabel=metric, ylim=(0, None))
    legend(axis)
    return png(picture, "Means with 95 % intervals over the users of each group; groups hold about equally many users.")


def png(picture: Any, caption: str) -> str:
    """An <img> with the picture inside, and what to see in it."""
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(caption)
    return f'<img alt="{text}" src="data:image/png;base64,{data}"><p class="caption">{text}</p>'
