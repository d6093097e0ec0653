"""The errors that facta raises for people; programming mistakes inside facta are assertions.

    FactaError
    ├── DataError        the event log, the item table or a prepared dataset
    ├── ConfigError      a recipe, a config key or a combination of options
    ├── ProtocolError    an evaluation that is undefined, or a comparison of unlike evaluations
    ├── ArtifactError    a saved model or checkpoint that is missing, torn, altered or too new
    ├── TrainingError    a run that cannot go on: non-finite loss, nothing to learn from
    ├── DownloadError    a public dataset that no origin could provide intact
    ├── ResourceError    memory or disk that would not suffice; a folder that cannot be written
    ├── BusyError        a request that found too many before it, or waited too long
    └── StoreError       an event store that cannot be reached or written, or is of a newer version
        ├── ConflictError      an event whose id is taken by an event of other content
        └── UnknownEventError  an event that is to be changed and is not stored

Every message is one sentence or two: what was found, what was expected, what to do.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


def interrupted_in_a_sentence() -> None:
    """Where this process is the command `facta`, an interrupt outside its verbs is a sentence instead of a stack.

    Python ends the process with the signal afterwards, so a shell sees 130 as after any interrupt.
    """
    if os.path.basename(sys.argv[0] if sys.argv else "").removesuffix(".exe") != "facta":  # noqa: PTH119
        return
    others = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            os.write(2, b"facta: interrupted; nothing was begun or half-written.\n")
        else:
            others(kind, error, trace)

    sys.excepthook = hook


def counted(count: int, noun: str) -> str:
    """ "1 event", "2,999 events": numbers in sentences."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class FactaError(Exception):
    """The root: `except facta.FactaError` catches everything that a user can cause or mend."""


class DataError(FactaError):
    pass


class ConfigError(FactaError):
    pass


class ProtocolError(FactaError):
    pass


class ArtifactError(FactaError):
    pass


class TrainingError(FactaError):
    pass


class DownloadError(FactaError):
    pass


class ResourceError(FactaError):
    pass


class BusyError(FactaError):
    pass


class StoreError(FactaError):
    pass


class ConflictError(StoreError):
    pass


class UnknownEventError(StoreError):
    pass


class UnknownValueWarning(UserWarning):
    """A request gives a value that the artifact's data never had, perhaps misspelt: it is read as undefined."""
