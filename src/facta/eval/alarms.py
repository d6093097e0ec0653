"""Alarms of predicted feedback: a model that is significantly worse than a constant, or biased.

The counterpart of the learning alarm (`training/alarm.py`) for a finished model's predictions of held-out events.
Significant: by the 95 % interval over users. The sentences go into the log, the card, tables and reports.
"""

from __future__ import annotations

from collections.abc import Mapping

from facta.eval.bootstrap import Interval


def alarms(means: Mapping[str, float], intervals: Mapping[str, Interval]) -> list[str]:
    """A sentence for each finding, worse than a constant first; metrics by their printed names, as in NE(click)."""
    worse, off = [], []
    for name, mean in means.items():
        metric, _, field = name.removesuffix(")").partition("(")
        if name not in intervals:
            continue
        low, high = intervals[name]
        span = f"[{low:.4f}, {high:.4f}]"
        if metric in ("NE", "NMAE") and low > 1:
            worse.append(
                f"{field}: {metric} {mean:.4f} {span} is above 1: {_CONSTANT[metric]} would predict "
                "better. Train longer or shorter, with less width or more dropout, or look at what changed between "
                "training and these events."
            )
        if metric == "Calibration" and (low > 1 or high < 1):
            off.append(f"{field}: the mean prediction is {mean:.4f} times {span} the share of successes.")
        if metric == "Bias" and (low > 0 or high < 0):
            off.append(
                f"{field}: the mean prediction, {means[f'Predicted({field})']:.4g}, is off by {mean:+.4g} "
                f"[{low:+.4g}, {high:+.4g}]; observed were {means[f'Observed({field})']:.4g}."
            )
    return worse + off


_CONSTANT = {"NE": "the base rate", "NMAE": "the median"}
