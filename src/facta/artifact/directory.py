"""A directory that appears whole or not at all: written beside its place, flushed to disk, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facta.errors import ResourceError


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield an empty draft directory next to `path`; on success it takes the place of `path`, on failure it vanishes.

    Raises ResourceError where the place cannot be written.
    """
    draft = path.with_name(f".{path.name}.writing-{os.getpid()}")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        for file in draft.iterdir():
            _flush(file)
        _flush(draft)
        _replace(draft, path)
        _flush(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResourceError(
            f"Cannot write '{path}' ({reason}): choose a folder that is writable and has room."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _replace(draft: Path, path: Path) -> None:
    """Two renames where something is replaced: a crash between them leaves the old directory under its `.old` name."""
    if not path.exists():
        draft.rename(path)
        return
    old = path.with_name(f".{path.name}.old-{os.getpid()}")
    path.rename(old)
    draft.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
