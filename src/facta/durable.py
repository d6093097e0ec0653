"""Files and directories that appear whole or not at all: written beside their place, flushed to disk, then renamed.

Also: sentences for errors of a disk, writers of tensors and tables, and the checksum of a file.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from facta.errors import ResourceError

if TYPE_CHECKING:
    from polars import DataFrame
    from torch import Tensor

_PARTIAL, _REPLACED = ".partial", ".replaced"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.EEXIST, errno.EISDIR)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn errors of a disk into a sentence. Raises ResourceError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            advice = "free some space, or write elsewhere."
        elif error.errno in _FORBIDDEN:
            advice = "choose a place that can be written."
        else:
            advice = "choose a place that is writable and has room."
        raise ResourceError(f"Cannot write '{place}' ({reason}): {advice}") from error


@contextmanager
def directory(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield an empty draft beside `path`; it replaces `path` on success and is removed on failure.

    If another process has written `path` in the meantime, it is replaced, or with `replace` false the call raises.
    Drafts of killed processes are removed first. Raises ResourceError.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        draft, lock = _locked_draft(path)
        try:
            draft.chmod(0o755)
            yield draft
            for place in [*draft.rglob("*"), draft]:
                _flush(place)
            _take_the_name(draft, path) if replace else _take_a_free_name(draft, path)
            _flush(path.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)  # gone after the rename
            os.close(lock)


def file(path: Path, data: bytes) -> None:
    """Write one file. Raises ResourceError."""
    with writing(path):
        draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            draft.write_bytes(data)
            _flush(draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def renamed(draft: Path, path: Path) -> Iterator[Path]:
    """Yield the draft to write; on success it is flushed and renamed to `path`. Raises ResourceError."""
    with writing(path):
        try:
            yield draft
            _flush(draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, inside `directory` or `writing`. Raises OSError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # its name for a full disk
        raise OSError(str(error)) from error


def save_table(path: Path, table: DataFrame) -> None:
    """Write a parquet file, inside `directory` or `writing`. Raises OSError."""
    from polars.exceptions import ComputeError

    try:
        table.write_parquet(path)
    except ComputeError as error:  # the library's error for a full disk, for a path or a stream
        raise OSError(str(error)) from error


def sha256(path: Path) -> str:
    """The checksum of a file, in hex digits. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _locked_draft(path: Path) -> tuple[Path, int]:
    """A new folder beside `path`, and a descriptor whose lock shows that the process is alive."""
    while True:
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_PARTIAL, dir=path.parent))
        lock = os.open(draft, os.O_RDONLY)
        _locks(lock)
        if draft.exists():  # another process may have removed it as abandoned before it was locked
            return draft, lock
        os.close(lock)


def _remove_abandoned(path: Path) -> None:
    """Remove drafts of `path` without a living process, and folders that a killed process was about to remove."""
    for left in path.parent.glob(f".{escape(path.name)}.*{_PARTIAL}"):
        if not left.is_dir() or left.is_symlink():
            continue
        lock = os.open(left, os.O_RDONLY)
        try:
            if _locks(lock):
                shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(lock)
    for left in path.parent.glob(f".{escape(path.name)}.*{_REPLACED}") if path.exists() else ():
        shutil.rmtree(left, ignore_errors=True)


def _locks(descriptor: int) -> bool:
    """Lock an open file or folder for this process; False if another process holds it, or the disk has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _take_a_free_name(draft: Path, path: Path) -> None:
    """Rename to a free name or an empty folder; the kernel refuses other targets. Raises ResourceError."""
    try:
        draft.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise ResourceError(
            f"'{path}' was written by another process in the meantime and stays as it is; "
            "choose another place, or replace it (--overwrite)."
        ) from error


def _take_the_name(draft: Path, path: Path) -> None:
    """Replace a folder; the old one is removed after the rename, and a crash in between leaves it as `.replaced`."""
    if not path.exists():
        draft.rename(path)
        return
    old = draft.with_suffix(_REPLACED)
    path.rename(old)
    try:
        draft.rename(path)
    except OSError:
        if not path.exists():
            old.rename(path)
        raise
    finally:
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
