"""`facta serve --check`: whether a service would start, before it is started. Imports torch, as the HTTP process does
not."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from facta import durable
from facta.artifact import files
from facta.errors import ResourceError
from facta.hardware import human, memory_free
from facta.infer.cache import bytes_of
from facta.serve.config import ServeConfig
from facta.serve.keys import check_keyless, read_keys
from facta.store.opening import open_store

_ENGINE = 300_000_000  # bytes of a process with torch, before it has loaded anything


def checked(config: ServeConfig) -> list[tuple[str, str]]:
    """(what was looked at, what was found) of all that a service needs. Raises FactaError for the first that fails."""
    looks: dict[str, Callable[[ServeConfig], str]] = {
        "models": _models, "store": _store, "keys": _keys, "port": _port, "memory": _memory, "answers": _answers,
    }  # fmt: skip
    return [(what, look(config)) for what, look in looks.items()]


def check_artifacts(config: ServeConfig) -> list[str]:
    """The fingerprints of the artifacts, every checksum verified. Raises ArtifactError."""
    places = [place for one in config.models.values() for place in (one.artifact, one.ranker) if place is not None]
    return [f"{place} ({files.check(place)})" for place in places]


def _models(config: ServeConfig) -> str:
    return ", ".join(check_artifacts(config))


def _store(config: ServeConfig) -> str:
    store = open_store(config.store)
    try:
        store.changes({0: 0})
    finally:
        store.close()
    return "opened and read"


def _keys(config: ServeConfig) -> str:
    if config.keys is None:
        check_keyless(config.host)
        return "none: everybody on this machine may ask and write"
    roles = [key.role for key in read_keys(Path(config.keys))]
    return ", ".join(f"{roles.count(role)} {role}" for role in sorted({*roles})) or "none yet"


def _port(config: ServeConfig) -> str:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((config.host, config.port))
        except OSError as error:
            raise ResourceError(
                f"Cannot listen on {config.host}:{config.port} ({error.strerror}); say another --port."
            ) from error
    return f"{config.host}:{config.port} is free"


def _memory(config: ServeConfig) -> str:
    weights = sum(
        path.stat().st_size
        for one in config.models.values()
        for place in (one.artifact, one.ranker)
        if place is not None
        for path in Path(place).iterdir()
    )
    needed = weights + len(config.models) * (bytes_of(config.cache) + _ENGINE)
    free = memory_free()
    if free is not None and needed > free:
        raise ResourceError(
            f"About {human(needed)} of memory would be used and {human(free)} are free; say a smaller --cache."
        )
    return f"about {human(needed)}" + ("" if free is None else f" of {human(free)} that are free")


def _answers(config: ServeConfig) -> str:
    if config.answers is None:
        return "not kept"
    place = Path(config.answers)
    with durable.writing(place), place.open("ab"):
        pass
    return f"kept in {place} for {config.answers_days} days"
