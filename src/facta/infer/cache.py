"""What is kept and what goes: values under keys within a budget of bytes, the least recently used go first."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from facta.errors import ConfigError

OBJECTS = 8192  # bytes of the Python objects and of the allocator around what is held of one person, as measured
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Cache(Generic[Key, Value]):
    """Values of a stated size. It knows nothing of what they are."""

    def __init__(self, budget: int) -> None:
        """`budget`: bytes."""
        self.budget, self.nbytes, self.evicted, self.evicted_bytes = budget, 0, 0, 0
        self._held: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: Key) -> bool:
        return key in self._held

    def __iter__(self) -> Iterator[Key]:
        """Keys, the least recently used first."""
        return iter(self._held)

    def get(self, key: Key) -> Value | None:
        """The value, which has been used then."""
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def items(self) -> list[tuple[Key, Value]]:
        """All of it, without being used by that; the least recently used first."""
        return [(key, value) for key, (value, _) in self._held.items()]

    def put(self, key: Key, value: Value, nbytes: int) -> None:
        """Hold a value in the place of the one under its key. One that exceeds the whole budget is not held."""
        self.drop(key)
        if nbytes > self.budget:
            return
        self._held[key] = value, nbytes
        self.nbytes += nbytes
        while self.nbytes > self.budget:
            held = self.nbytes
            self.drop(next(iter(self._held)))
            self.evicted += 1
            self.evicted_bytes += held - self.nbytes

    def drop(self, key: Key) -> None:
        """Forget a key, if it is there."""
        if key in self._held:
            self.nbytes -= self._held.pop(key)[1]


def bytes_of(size: int | str) -> int:
    """1073741824 of "1GiB" and of itself. Raises ConfigError for what is no size."""
    if isinstance(size, int) and not isinstance(size, bool) and size >= 0:
        return size
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(|KiB|MiB|GiB)", size) if isinstance(size, str) else None
    if found is None:
        raise ConfigError(f"Found the size {size!r}; expected bytes, as in 1073741824 or '1GiB' (KiB, MiB, GiB).")
    return int(float(found[1]) * _UNITS[found[2]])
