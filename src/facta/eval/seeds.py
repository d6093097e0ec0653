"""The same recipe trained with several seeds: mean and deviation of each metric over them.

The deviation says how much a result depends on initial weights and the order of batches. It is no interval over users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def over_seeds(summaries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Metric -> mean and sample deviation (n - 1; None for one seed) of the means in summaries of one protocol."""
    found: dict[str, dict[str, float | None]] = {}
    for name in summaries[0]["metrics"]:
        means = [one["metrics"][name]["mean"] for one in summaries]
        if any(mean is None for mean in means):
            found[name] = {"mean": None, "deviation": None}
            continue
        spread = float(np.std(means, ddof=1)) if len(means) > 1 else None
        found[name] = {"mean": float(np.mean(means)), "deviation": spread}
    return found
