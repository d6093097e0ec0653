"""Run every command of README.md and docs/*.md as printed, page after page in one clean folder: `scripts/pages`.

The files that the pages speak of (events.csv, items.csv, shop.parquet, actions.parquet) are written first, small, and a
block of Python that a page says to save. Simulated logs and searches are made smaller; nothing else of a command is
changed. Left out: `make`, downloads, what needs a folder of the
reader's, and `--device cuda`. Only `facta doctor` may exit with 1, which it does where a log would be refused.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = (r"^make ", r"~/", r"^facta data (?!simulate)", r"--device cuda")
SMALLER = ((r"--users \d+", "--users 60"), (r"--items 500", "--items 40"), (r"--trials \d+", "--trials 2"))
T0 = 1_700_000_000


def commands(page: Path) -> list[str]:
    """What a reader types: lines with `$ ` in console blocks, continued lines joined; a file that is shown by `cat` is
    written."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    found = []
    for block in blocks:
        for part in re.split(r"^\$ ", block.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            found.append(f"cat > {command.split()[1]} <<'END'\n{shown}END" if command.startswith("cat ") else command)
    return found


def save_python(page: Path, folder: Path) -> None:
    """Write the blocks of Python that a page says to save: "Save this as `NAME`"."""
    told = r"Save this as `([\w.]+)`.*?^```python\n(.*?)^```"
    for name, code in re.findall(told, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        (folder / name).write_text(code, encoding="utf-8")


def write_files(folder: Path) -> None:
    """A shop: 60 users with 12 events each, ratings, and the columns of docs/ranking.md."""
    rng = np.random.default_rng(0)
    user, place = np.repeat(np.arange(60), 12), np.tile(np.arange(12), 60)
    item, count = (user + place) % 40, len(user)
    time_ = T0 + 86_400 * place + 60 * user
    pl.DataFrame({"user_id": user, "item_id": item, "timestamp": time_, "rating": 1 + item % 5}).write_csv(
        folder / "events.csv"
    )
    pl.DataFrame(
        {
            "item_id": range(40),
            "title": [f"Item {item}" for item in range(40)],
            "category": [f"category {item % 4}" for item in range(40)],
            "price": [1.5 * item for item in range(40)],
        }
    ).write_csv(folder / "items.csv")
    cart = rng.random(count) < 0.4
    buy = cart & (rng.random(count) < 0.5)
    pl.DataFrame(
        {
            "user_id": user,
            "item_id": item,
            "timestamp": time_,
            "surface": rng.choice(["home", "search"], count),
            "cart": cart.astype(np.int8),
            "carted_at": np.where(cart, time_ + 30, 0),
            "buy": buy.astype(np.int8),
            "bought_at": np.where(buy, time_ + 50, 0),
            "dwell": rng.exponential(30, count).astype(np.float32),
        }
    ).write_parquet(folder / "shop.parquet")
    write_actions(folder, user, item)


def write_actions(folder: Path, user: np.ndarray, item: np.ndarray) -> None:
    """A line for each action: all items of the shop are viewed, some put into the cart, some of these bought."""
    march = 1_709_500_000 + 7_200 * np.arange(len(user))  # 2024-03-03 on
    parts = [
        pl.DataFrame(
            {"user_id": 1000 + user, "item_id": item, "timestamp": march + 60 * step, "event_type": action}
        ).gather_every(2**step)
        for step, action in enumerate(("view", "cart", "buy"))
    ]
    pl.concat(parts).write_parquet(folder / "actions.parquet")


def service(command: str, folder: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """A service that has been started and is ready. Raises AssertionError where it does not come up."""
    with (folder / "serve.log").open("wb") as log:
        running = subprocess.Popen(shlex.split(command), cwd=folder, env=env, stdout=log, stderr=log)
    port = re.search(r"--port (\d+)", command)
    ready = f"http://127.0.0.1:{port[1] if port else 8000}/health/ready"
    for _ in range(600):
        if running.poll() is not None:
            break
        try:
            with urllib.request.urlopen(ready, timeout=5):
                print(f"started {command}", flush=True)
                return running
        except OSError:
            time.sleep(0.1)
    running.kill()
    raise AssertionError(f"{command} is not ready: {(folder / 'serve.log').read_text()}")


def main() -> None:
    chosen = [ROOT / name for name in sys.argv[1:]] or [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="facta-pages-") as place:
        write_files(Path(place))
        for page in chosen:
            save_python(page, Path(place))
            running: list[subprocess.Popen[bytes]] = []
            for command in commands(page):
                if any(re.search(pattern, command) for pattern in LEFT_OUT):
                    print(f"left out   {page.name}: {command}", flush=True)
                    continue
                typed = command
                for pattern, smaller in SMALLER:
                    command = re.sub(pattern, smaller, command)
                began = time.monotonic()
                path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
                env = {"PATH": path, "HOME": place}
                if command.startswith("facta serve") and "--check" not in command:  # it runs until the page ends
                    running.append(service(command, Path(place), env))
                    continue
                run = subprocess.run(["bash", "-c", command], cwd=place, capture_output=True, text=True, env=env)
                right = run.returncode == 0 or (run.returncode == 1 and command.startswith("facta doctor"))
                print(
                    f"{'ran' if right else 'FAILED'} {time.monotonic() - began:5.1f} s {page.name}: {typed}", flush=True
                )
                if not right:
                    failed += 1
                    print(run.stderr[-2000:], flush=True)
            for one in running:
                one.terminate()
                one.wait()
    sys.exit(f"{failed} commands failed" if failed else 0)


if __name__ == "__main__":
    main()
