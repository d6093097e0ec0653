"""Files of an evaluation: JSON beside its arrays (.npz), linked by a checksum."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facta import durable
from facta.errors import ProtocolError

FORMAT = 1

Arrays = dict[str, npt.NDArray[Any]]


def write(path: Path | str, summary: Mapping[str, Any], arrays: Arrays) -> None:
    """Write `path` (.json) and the arrays beside it (.npz). Raises ResourceError."""
    path, buffer = Path(path), io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    content = {"format": FORMAT, **summary, "arrays_sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}
    durable.file(path.with_suffix(".npz"), buffer.getvalue())
    durable.file(path, (json.dumps(content, indent=2) + "\n").encode())


def read(path: Path | str, what: str, key: str) -> tuple[dict[str, Any], Arrays]:
    """The summary and the arrays that `write` wrote; `key` identifies `what`, such as "saved result".

    Raises ProtocolError for a missing or altered file, a newer format or another kind.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        data = path.with_suffix(".npz").read_bytes()
    except (OSError, ValueError) as error:
        raise ProtocolError(f"'{path}' is no {what} ({error}); expected a .json with its .npz beside.") from error
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise ProtocolError(f"'{path}' has format {found}; this facta reads up to {FORMAT}: update facta.")
    if not isinstance(found, int) or key not in content:
        raise ProtocolError(f"'{path}' is no {what}; expected a .json that the same type of facta's saved.")
    if hashlib.sha256(data).hexdigest() != content.get("arrays_sha256"):
        raise ProtocolError(f"'{path}' and its .npz do not belong together (wrong checksum); evaluate again.")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return content, dict(arrays)
