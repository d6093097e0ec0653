"""Which events of a history may not be recommended again, as a protocol writes it: `nothing`, the last N visible
events `window(N)`, or all of `history`."""

from __future__ import annotations

import re

ALL = "history"  # the default mask of a protocol


def is_mask(text: str) -> bool:
    return text in ("nothing", ALL) or re.fullmatch(r"window\([1-9]\d*\)", text) is not None


def masked_events(mask: str) -> int | None:
    """How many of the newest visible events are masked; None: all of them."""
    if mask.startswith("window"):
        return int(mask[len("window(") : -1])
    return None if mask == ALL else 0
