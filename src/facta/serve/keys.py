"""Who may do what: keys of 256 random bits, of which a file keeps the SHA-256.

A line of the file is a JSON object: {"role": "read", "sha256": "…", "made": "2026-11-30"}. Take a line out, and its key
opens nothing from the next request on.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from facta import durable
from facta.errors import ConfigError

Role = Literal["read", "write", "admin"]
"""`read` asks, `write` changes what is known of people, `admin` does both and swaps models."""

_LOOK = 1.0  # seconds between looks whether the file has changed


class Key(NamedTuple):
    role: Role
    sha256: str


def new_key(path: Path, role: Role) -> str:
    """Make a key, keep its hash in the file, and return it: it is told once. Raises ConfigError and ResourceError."""
    if role not in get_args(Role):
        raise ConfigError(f"Found the role {role!r}; expected {', '.join(get_args(Role))}.")
    if path.exists():
        read_keys(path)  # a damaged file is not made longer
    token = f"facta_{secrets.token_hex(32)}"
    line = {"role": role, "sha256": _hash(token), "made": datetime.now(UTC).date().isoformat()}
    there = path.read_text(encoding="utf-8") if path.exists() else ""
    durable.file(path, (there + json.dumps(line) + "\n").encode())
    path.chmod(0o600)
    return token


def read_keys(path: Path) -> list[Key]:
    """The keys of a file. Raises ConfigError."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        keys = [Key(line["role"], line["sha256"]) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"The keys of '{path}' cannot be read ({error}); make one with `facta keys new`.") from error
    if wrong := [one for one in keys if one.role not in get_args(Role) or len(one.sha256) != 64]:
        raise ConfigError(f"Found a key of role {wrong[0].role!r} in '{path}' that is none; take the line out.")
    return keys


def check_keyless(host: str) -> None:
    """Raise ConfigError where others than this machine would reach a service without keys."""
    try:
        alone = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        alone = False
    if not alone:
        raise ConfigError(
            f"Found the host {host}, which others may reach, and no keys; make one with `facta keys new --keys FILE` "
            "and say --keys FILE, or stay on 127.0.0.1."
        )


class Keys:
    """The keys of a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path, self._keys = path, read_keys(path)
        self._changed, self._looked = path.stat().st_mtime_ns, time.monotonic()

    def find(self, token: str) -> Key | None:
        """The key that a token is. Every stored hash is compared in the same time, whatever is found."""
        self._look()
        mine, found = _hash(token), None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, mine):
                found = key
        return found

    def _look(self) -> None:
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        try:
            changed = self._path.stat().st_mtime_ns
        except OSError:
            self._keys, self._changed = [], 0  # no file, no key
            return
        if changed != self._changed:
            self._keys, self._changed = read_keys(self._path), changed


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
