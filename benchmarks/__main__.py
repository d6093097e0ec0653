"""`python -m benchmarks [WORD]`: run the measuring commands whose text or figures contain WORD, one after the other."""

from __future__ import annotations

import shlex
import subprocess
import sys

from benchmarks.figures import FIGURES, ROOT, commands, committed


def main() -> None:
    committed()
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = commands(figure for name, figure in FIGURES.items() if word in name or word in figure.command)
    if not chosen:
        sys.exit(f"No figure contains '{word}'; there are: {', '.join(FIGURES)}.")
    for command in chosen:
        print(f"$ {command}", flush=True)
        subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
