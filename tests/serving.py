"""A real service for tests: two processes, a free port, a client that sees every answer."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl

from facta.artifact.contents import ArtifactData
from facta.artifact.files import save
from facta.data.dataset.dataset import Dataset
from facta.data.log.prepare import prepare
from facta.infer.artifact import Artifact
from facta.serve.config import ServeConfig
from tests.unit.test_candidates import artifact

DAY, T0, ITEMS = 86_400_000, 1_700_000_000_000, 9
ROOT = Path(__file__).parents[1]
PATIENCE = 40.0  # seconds until a service is ready: torch is imported beside other tests


class Server:
    """A running service. `module`: what python -m runs with the config."""

    def __init__(self, config: ServeConfig, folder: Path, module: str = "facta.serve") -> None:
        self.config = config.change(port=free_port()) if not config.port else config
        self.log = folder / f"serve-{self.config.port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, self.config.model_dump_json()],
                stderr=log, stdout=log, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.config.port}", timeout=20)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return self.http.post(path, json=body, headers=headers)

    def wait(self, *, ready: bool = True) -> None:
        """Until it answers, or is ready."""
        until, path = time.monotonic() + PATIENCE, "/health/ready" if ready else "/health/live"
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                if self.http.get(path).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def engines(self) -> list[int]:
        """The processes that it has started."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == self.process.pid:
                found.append(int(stat.parent.name))
        return found

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)


@contextmanager
def serving(config: ServeConfig, folder: Path, *, ready: bool = True, module: str = "facta.serve") -> Iterator[Server]:
    server = Server(config, folder, module)
    try:
        server.wait(ready=ready)
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def shop(folder: Path, *, text: bool = False, first: int = 0) -> Dataset:
    """20 people with 6 events; the log calls users `visitor`, and has titles. Ids of items count from `first`."""
    rng = np.random.default_rng(1)
    user, place = np.repeat(np.arange(20), 6), np.tile(np.arange(6), 20)
    frame = pl.DataFrame(
        {
            "visitor": [f"u/{one}" for one in user] if text else user,
            "item_id": first + (user + place) % (ITEMS - 1),
            "timestamp": (T0 + DAY * place + user) // 1000,
            "tab": rng.choice(["home", "search"], 120),
            "click": rng.integers(0, 2, 120),
        }
    )
    items = pl.DataFrame(
        {"item_id": range(first, first + ITEMS), "title": [f"The {name} film" for name in "abcdefghi"]}
    )
    items = items.with_columns(genre=pl.Series([f"genre {item % 3}" for item in range(ITEMS)]))
    return prepare(
        frame, folder, items=items, item_fields={"genre": "categorical"}, columns={"user_id": "visitor"},
        fields={"tab": "context", "click": "feedback"},
    )  # fmt: skip


def saved(dataset: Dataset, place: Path, model: str = "interleaved") -> Artifact:
    """An untrained model of a dataset: its answers are as good as any for what is tested here."""
    made = artifact(dataset, model, window=16, joint=True)
    schema = dataset.manifest.model_dump(mode="json")
    save(ArtifactData(made.config, schema, made.catalogue, made.model), place)
    return Artifact.load(place)


def config_of(folder: Path, **changes: Any) -> ServeConfig:
    """What a service of the artifact in a folder is started with, on a free port."""
    given = {"models": {"default": {"artifact": str(folder / "artifact")}}, "cache": "16MiB", "port": 0}
    return ServeConfig(**{"store": f"sqlite:///{folder}/events.db", **given, **changes})
