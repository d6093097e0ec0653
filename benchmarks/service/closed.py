"""A closed loop by wrk: so many connections ask without pause."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.serving import Server

from benchmarks.service.world import World

SCRIPT = Path(__file__).with_name("mix.lua")


@dataclass(frozen=True)
class Closed:
    """What wrk says."""

    per_second: float
    failed: int  # answers that were no 2xx, and connections that broke


def closed(server: Server, world: World, seconds: int, connections: int = 32) -> Closed:
    """80 % recommend, 20 % events, over all users. Raises RuntimeError without wrk."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("Found no wrk; the closed loop is its: install it (apt install wrk).")
    users, items = world.folder / "users.txt", world.folder / "items.txt"
    users.write_text("\n".join(map(str, world.users)))
    items.write_text("\n".join(map(str, world.items)))
    url = f"http://127.0.0.1:{server.config.port}"
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(SCRIPT), url, world.keys["admin"]]
    said = subprocess.run([*command, str(users), str(items)], capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s*([\d.]+)", said)
    if rate is None:
        raise RuntimeError(f"wrk said no rate:\n{said}")
    broken = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    failed = int(broken[1]) if broken else 0
    return Closed(float(rate[1]), failed + (sum(map(int, sockets.groups())) if sockets else 0))
