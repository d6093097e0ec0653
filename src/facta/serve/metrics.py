"""Counters in the text format of Prometheus, in a few lines of our own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds: upper ends of the latencies that are counted together."""

_ENGINE = {
    "waiting": ("gauge", "Requests that wait for their turn."),
    "steps": ("counter", "Steps of the engine."),
    "answered": ("counter", "Requests that the engine answered."),
    "answered_from_cache": ("counter", "Answers that began from kept keys and values."),
    "expired": ("counter", "Requests that waited beyond their deadline."),
    "cache_bytes": ("gauge", "Bytes of what is kept of people."),
    "cache_people": ("gauge", "People of whom keys and values are kept."),
    "cache_evicted": ("counter", "People whose keys and values made room for others."),
}


class Metrics:
    """What was answered, by route and status, and how long it took."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, int], int] = defaultdict(int)
        self._times: dict[str, list[int]] = {}  # [buckets + 1]
        self._seconds: dict[str, float] = defaultdict(float)
        self.events = 0

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request is over. `route` has no ids."""
        self._answers[route, status] += 1
        counts = self._times.setdefault(route, [0] * (len(BUCKETS) + 1))
        counts[next((place for place, end in enumerate(BUCKETS) if seconds <= end), len(BUCKETS))] += 1
        self._seconds[route] += seconds

    def text(self, engines: Mapping[str, Mapping[str, Any]], starts: Mapping[str, int]) -> str:
        """All of it. `engines`: name -> counters of its process; `starts`: how often each was started."""
        lines = [*self._of_requests(), *_of_engines(engines)]
        lines += _head("facta_events_total", "counter", "Events that were accepted.")
        lines.append(f"facta_events_total {self.events}")
        lines += _head("facta_engine_starts_total", "counter", "How often the process of a model was started.")
        lines += [f"facta_engine_starts_total{_labels(model=name)} {count}" for name, count in starts.items()]
        return "\n".join(lines) + "\n"

    def _of_requests(self) -> Iterator[str]:
        yield from _head("facta_requests_total", "counter", "Requests by route and status.")
        for (route, status), count in sorted(self._answers.items()):
            yield f"facta_requests_total{_labels(route=route, status=status)} {count}"
        yield from _head("facta_request_seconds", "histogram", "How long requests took.")
        for route, counts in sorted(self._times.items()):
            total = 0
            for end, count in zip([*BUCKETS, "+Inf"], counts, strict=True):
                total += count
                yield f"facta_request_seconds_bucket{_labels(route=route, le=end)} {total}"
            yield f"facta_request_seconds_sum{_labels(route=route)} {self._seconds[route]:.6f}"
            yield f"facta_request_seconds_count{_labels(route=route)} {total}"


def _of_engines(engines: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, (kind, said) in _ENGINE.items():
        full = f"facta_engine_{name}" + ("_total" if kind == "counter" else "")
        yield from _head(full, kind, said)
        for model, found in engines.items():
            if name in found:
                yield f"{full}{_labels(model=model)} {found[name]}"


def _head(name: str, kind: str, said: str) -> list[str]:
    return [f"# HELP {name} {said}", f"# TYPE {name} {kind}"]


def _labels(**values: object) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in values.items()) + "}"
