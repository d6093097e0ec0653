"""What the service is measured with: HSTU of MovieLens 1M, everybody's history in a store, keys, two processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.serving import Server, serving

import facta
from benchmarks.runs import dataset
from facta.serve.config import ServeConfig
from facta.serve.keys import new_key
from facta.store.importing import import_dataset
from facta.store.opening import open_store

CACHE = "1GiB"


@dataclass(frozen=True)
class World:
    """Files of a service, in a folder of this disk."""

    folder: Path
    keys: dict[str, str]  # role -> key
    users: list[int | str]
    items: list[int | str]

    def config(self, **changes: object) -> ServeConfig:
        given = {
            "models": {"default": {"artifact": str(self.folder / "artifact")}},
            "store": f"sqlite:///{self.folder}/events.db",
            "keys": str(self.folder / "keys.jsonl"),
            "cache": CACHE,
            "port": 0,
        }
        return ServeConfig.parse({**given, **changes})

    @contextmanager
    def serving(self, config: ServeConfig | None = None) -> Iterator[Server]:
        """A running service of these files, ready."""
        with serving(config or self.config(), self.folder) as server:
            server.http.headers["authorization"] = f"Bearer {self.keys['admin']}"
            yield server


def world(folder: Path) -> World:
    """MovieLens 1M: HSTU by its recipe, of one epoch (weights change no time), and all 6,040 histories imported."""
    data = dataset("movielens-1m")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    facta.train(data, "movielens-1m/hstu", folder / "artifact", {"training": {"epochs": 1, "validate_every": 1}})
    store = open_store(f"sqlite:///{folder}/events.db")
    import_dataset(data, store)
    store.close()
    keys = {role: new_key(folder / "keys.jsonl", role) for role in ("read", "write", "admin")}
    return World(folder, keys, data.users["user_id"].to_list(), data.items["item_id"].to_list())
