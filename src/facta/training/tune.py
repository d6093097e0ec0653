"""Random search on validation: a trial's settings are a function of (space, seed, trial), so a search can resume.

    out/
      trials.jsonl       the space of the search; then one line per finished trial
      trial-003/         the run of a trial: metrics.jsonl, and checkpoints until it is finished

Trial 0 is the recipe itself, so that the result is never worse than the recipe. The search is random, not a grid: of
many settings few matter, and a random search tries more values of these (Bergstra and Bengio 2012).
"""

from __future__ import annotations

import json
import math
import os
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from facta import draws, durable
from facta.config import Config
from facta.errors import ArtifactError, ConfigError, TrainingError
from facta.eval.metrics import lower_is_better
from facta.training.identity import Identity

DIGITS = 3  # significant digits of a drawn number, so that printed values are exact


class Range(Config):
    """Uniform numbers between two bounds, or with `log` uniform on a logarithmic scale."""

    low: float
    high: float
    log: bool = False
    whole: bool = Field(False, description="integers only")

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ConfigError(
                f"Found the range {self.low:g} to {self.high:g}; low must be below high, and above 0 with log."
            )
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise ConfigError(f"Found the whole range {self.low:g} to {self.high:g}; expected integers at both ends.")
        return self


Space = Mapping[str, tuple[Any, ...] | Range]
"""Dotted key of a recipe -> the values to choose from, or a range."""


@dataclass(frozen=True)
class Trial:
    """One line of trials.jsonl; `value` is None for settings that cannot be trained, with the reason in `error`."""

    trial: int
    settings: Mapping[str, Any]
    value: float | None
    seconds: float
    error: str | None = None

    @property
    def overrides(self) -> list[str]:
        return overrides(self.settings)


Run = Callable[[int, list[str]], float]
"""(trial, overrides) -> metrics of the kept weights on validation."""


def settings(space: Space, seed: int, trial: int) -> dict[str, Any]:
    """A key's value depends on (seed, trial, key) alone: another key in the space changes no draw."""
    if trial == 0:
        return {}
    return {key: _value(choices, _share(seed, trial, key)) for key, choices in space.items()}


def without(space: Space, fixed: Sequence[str]) -> Space:
    """The space without fixed keys: a key fixes itself, the keys within it and those that it lies in."""
    return {key: choices for key, choices in space.items() if not any(_nested(key, other) for other in fixed)}


def overrides(chosen: Mapping[str, Any]) -> list[str]:
    """Settings in the form of `--set`."""
    return [f"{key}={json.dumps(value)}" for key, value in chosen.items()]


def search(
    run: Run,
    space: Space,
    out: Path,
    identity: Identity,
    *,
    trials: int,
    seed: int = 0,
    progress: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Run the missing ones of `trials` trials and return all.

    `progress` is called for each trial, earlier ones included. A failed trial is recorded, and the search goes on.
    Raises ConfigError if there is nothing to search, ArtifactError if `out` holds another search, TrainingError if no
    trial could be trained.
    """
    if not space:
        raise ConfigError(
            "The recipe declares nothing to search, or all of it is fixed; declare something, as in "
            '--set \'search={"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": true}}\'.'
        )
    identity = Identity({**identity.recipe, "tuning_seed": seed, "tuning_space": _plain(space)}, identity.dataset)
    done = _open(out / "trials.jsonl", identity)
    for number in range(trials):
        if number not in done:
            done[number] = _try(run, number, settings(space, seed, number))
            _append(out / "trials.jsonl", asdict(done[number]))
        if progress is not None:
            progress(done[number])
    found = [done[number] for number in range(trials)]
    if all(trial.value is None for trial in found):
        raise TrainingError(f"None of the {trials} trials could be trained; the first said: {found[0].error}")
    return found


def best(trials: Sequence[Trial], metric: str) -> Trial:
    """The trial with the best value of a metric; ties go to the first."""
    sign = -1 if lower_is_better(metric) else 1
    return max(trials, key=lambda trial: (-math.inf if trial.value is None else sign * trial.value, -trial.trial))


def _try(run: Run, number: int, chosen: Mapping[str, Any]) -> Trial:
    began = time.perf_counter()
    value, message = None, None
    try:
        value = run(number, overrides(chosen))
    except (TrainingError, ConfigError) as error:
        message = str(error)
    return Trial(number, chosen, value, time.perf_counter() - began, message)


def _nested(one: str, other: str) -> bool:
    """Whether one dotted key equals the other or lies within it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _plain(space: Space) -> dict[str, Any]:
    """As JSON."""
    return {
        key: choices.model_dump(mode="json") if isinstance(choices, Range) else list(choices)
        for key, choices in space.items()
    }


def _share(seed: int, trial: int, key: str) -> float:
    """Uniform in [0, 1)."""
    return (draws.mix_int(seed, trial, zlib.crc32(key.encode())) & ((1 << 53) - 1)) / (1 << 53)


def _value(choices: tuple[Any, ...] | Range, share: float) -> Any:
    if not isinstance(choices, Range):
        return choices[int(share * len(choices))]
    if choices.whole:
        low, high = choices.low, choices.high + 1  # each integer has the interval up to the next
    else:
        low, high = choices.low, choices.high
    number = low * (high / low) ** share if choices.log else low + (high - low) * share
    return min(math.floor(number), int(choices.high)) if choices.whole else float(f"{number:.{DIGITS}g}")


def _open(path: Path, identity: Identity) -> dict[int, Trial]:
    """Finished trials of the same search; a torn last line is cut off."""
    with durable.writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        path.unlink(missing_ok=True)
        _append(path, identity.to_json())
        return {}
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    try:
        header, *lines = [json.loads(line) for line in whole.splitlines()]
        trials = [Trial(**line) for line in lines]
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"'{path}' is not a list of trials; choose another folder.") from error
    identity.check(header, path.parent)
    return {trial.trial: trial for trial in trials}


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with durable.writing(path), path.open("ab") as file:
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
