"""A real service for tests: two processes, a free port, a client that sees every answer."""

from __future__ import annotations

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

from facta.serve.config import ServeConfig

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 40.0  # seconds until a service is ready: torch is imported beside other tests


class Server:
    """A running service."""

    def __init__(self, config: ServeConfig, folder: Path) -> None:
        self.config = config.change(port=free_port()) if not config.port else config
        self.log = folder / f"serve-{self.config.port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "facta.serve", self.config.model_dump_json()],
                stderr=log, stdout=log, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
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

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)


@contextmanager
def serving(config: ServeConfig, folder: Path, *, ready: bool = True) -> Iterator[Server]:
    server = Server(config, folder)
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
