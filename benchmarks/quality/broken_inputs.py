"""Bad input through the real command line: each case must give one sentence or a stated repair, and leave no debris.

    python -m benchmarks.quality.broken_inputs           run every case, record how many are handled
    python -m benchmarks.quality.broken_inputs --look    print what each says, record nothing

The test suite runs the same cases; `broken.py` says what handling means.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.robustness.cases import Case, judge
from tests.robustness.files import FILES
from tests.robustness.logs import LOGS
from tests.robustness.places import PLACES
from tests.robustness.terminal import TERMINAL
from tests.robustness.values import VALUES

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record

FIGURES: dict[str, Figure] = {
    "broken_inputs_handled": Figure(
        ">= 110",
        "cases",
        module("broken_inputs"),
        "bad input that gives a sentence or a stated repair, and no debris",
    ),
}

CASES: tuple[Case, ...] = (*LOGS, *FILES, *VALUES, *PLACES, *TERMINAL)


def main() -> None:
    look = looking(__doc__)
    kinds: Counter[str] = Counter()
    for case in CASES:
        with tempfile.TemporaryDirectory(prefix="facta-broken-") as folder:
            problem, said = judge(case, Path(folder))
        kinds[case.kind] += not problem
        print(f"{'BROKEN ' + problem if problem else 'handled'}: {case.kind}, {case.name}", flush=True)
        if look or problem:
            print(f"    {said[-1500:]}")
    note = f"of {len(CASES)} cases; " + ", ".join(f"{kind} {count}" for kind, count in kinds.items())
    print(f"{kinds.total()} handled {note}")
    if not look:
        record("broken_inputs_handled", kinds.total(), note=note)
    sys.exit(kinds.total() < len(CASES))


if __name__ == "__main__":
    main()
