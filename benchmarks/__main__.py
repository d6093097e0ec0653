"""`python -m benchmarks [WORD]`: run the measuring commands whose text or figures contain WORD, one after the other.

First a card: the machine, and what it can do in this very run. Then each command; last the table of what was measured,
and each result as one line of JSON for other programs.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

from benchmarks.figures import FIGURES, commands, table
from benchmarks.record import ROOT, committed, hardware, latest, versions
from benchmarks.speed.turns import copy_rate, product_rate


def card() -> str:
    """The machine, its libraries, and how fast it multiplies and copies just now."""
    from facta.ops import backend

    machine = ", ".join(f"{name} {value}" for name, value in {**hardware(), **versions()}.items())
    rates = f"matrix product {product_rate():.0f} GFLOP/s, copy {copy_rate():.1f} GB/s (read and written), float32"
    return f"{machine}\n{rates}; kernels: {backend.why()}"


def main() -> None:
    committed()
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = {name: figure for name, figure in FIGURES.items() if word in name or word in figure.command}
    if not chosen:
        sys.exit(f"No figure contains '{word}'; there are: {', '.join(FIGURES)}.")
    print(card(), flush=True)
    for command in commands(chosen.values()):
        print(f"$ {command}", flush=True)
        subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=ROOT, check=True)
    lines = {name: line for name, line in latest().items() if name in chosen}
    print(table(lines, chosen))
    for line in lines.values():
        print(json.dumps(line))


if __name__ == "__main__":
    main()
