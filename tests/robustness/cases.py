"""How a broken input is run through the real command line, and what counts as handling it."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_CHARACTERS = 800  # of an error: a sentence or two, with paths and a list of valid names
SECONDS = 120.0


@dataclass(frozen=True)
class Answer:
    """What the command line said and how it ended."""

    code: int
    stdout: str
    stderr: str


Run = Callable[[Sequence[str]], Answer]


@dataclass(frozen=True)
class Case:
    """`arrange` puts the broken input into a folder and returns the arguments of `facta`.

    `says` is a pattern of the sentence, or of the stated repair. `leaves` names what may be new in the folder
    afterwards: nothing after an error, unless stated.
    """

    kind: str
    name: str
    arrange: Callable[[Path], Sequence[str]]
    says: str
    repaired: bool = False
    leaves: tuple[str, ...] = ()
    run: Run | None = None  # None: in this process
    holds: Callable[[Path, Answer], bool] = lambda folder, answer: True  # what else must be true afterwards


def in_process(arguments: Sequence[str]) -> Answer:
    """The console script `facta`, in this process."""
    from facta import cli

    out, err = io.StringIO(), io.StringIO()
    argv, columns = sys.argv, os.environ.get("COLUMNS")
    sys.argv, os.environ["COLUMNS"] = ["facta", *arguments], "200"
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = argv
        os.environ.pop("COLUMNS") if columns is None else os.environ.update(COLUMNS=columns)
    return Answer(code if isinstance(code, int) else 1, out.getvalue(), err.getvalue())


def in_subprocess(arguments: Sequence[str], *, before: Callable[[], None] | None = None) -> Answer:
    """The console script in a process of its own; `before` runs in it first."""
    command = [sys.executable, "-c", "from facta.cli import main; main()", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, env=environment, preexec_fn=before, check=False
    )
    return Answer(run.returncode, run.stdout, run.stderr)


def with_full_disk(room: int) -> Run:
    """No file can grow beyond `room` bytes, which a program sees as it sees a full disk: a write that fails."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    return lambda arguments: in_subprocess(arguments, before=limit)


def without_privileges(arguments: Sequence[str]) -> Answer:
    """Even for root, folders without the write bit are read-only."""

    def drop() -> None:
        libc = ctypes.CDLL(None)
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; fails harmlessly for users without privileges

    return in_subprocess(arguments, before=drop)


def contents(folder: Path) -> dict[str, str]:
    """Every path below a folder -> hash of the file; folders end in a slash."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name if path.is_file() else f"{name}/"] = _digest(path) if path.is_file() else ""
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def judge(case: Case, folder: Path) -> tuple[str, str]:
    """Run a case in an empty folder; what is wrong with the outcome ("" when it is handled), and what was said."""
    arguments = list(case.arrange(folder))
    before = contents(folder)
    answer = (case.run or in_process)(arguments)
    problems = _wrong_repair(case, answer) if case.repaired else _wrong_error(case, answer)
    after = contents(folder)
    changed = [name for name in before if after.get(name) != before[name]]
    new = [name for name in after if name not in before and name.split("/")[0] not in case.leaves]
    if changed or new:
        problems.append(f"changed {changed} and left {new}")
    if not problems and not case.holds(folder, answer):
        problems.append("the repair did not do what it says")
    return "; ".join(problems), (answer.stdout + answer.stderr).strip()


def _wrong_error(case: Case, answer: Answer) -> list[str]:
    lines = [line for line in answer.stderr.strip().splitlines() if line.strip()]
    sentence = lines[-1] if lines else ""
    checks = {
        f"ended with code {answer.code} instead of 1": answer.code == 1,
        "showed a stack": "Traceback" not in answer.stderr,
        "ended with something else than a sentence": sentence.startswith("facta: ") and sentence.endswith((".", "?")),
        "called it unexpected": not sentence.startswith("facta: unexpected"),
        f"took {len(sentence)} characters": len(sentence) <= MOST_CHARACTERS,
        f"did not say '{case.says}'": re.search(case.says, sentence) is not None,
    }
    return [problem for problem, fine in checks.items() if not fine]


def _wrong_repair(case: Case, answer: Answer) -> list[str]:
    checks = {
        f"ended with code {answer.code} instead of 0": answer.code == 0,
        "showed a stack": "Traceback" not in answer.stderr,
        f"did not say '{case.says}'": re.search(case.says, answer.stdout + answer.stderr) is not None,
    }
    return [problem for problem, fine in checks.items() if not fine]
