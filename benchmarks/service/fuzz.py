"""What whatever is sent makes of the service: 5xx but 503, of all that schemathesis invents.

    python -m benchmarks.service.fuzz            measure and record
    python -m benchmarks.service.fuzz --look     measure and print only

All checks but one, over the OpenAPI page of a small service without keys, 200 examples an operation. Left out is the
check that what the page's schema allows is accepted: the schema does not know the log.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.serving import config_of, saved, serving, shop

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record

FIGURES: dict[str, Figure] = {
    "serve_fuzz_5xx": Figure("<= 0", "", module("fuzz"), "answers 5xx but 503 to all that schemathesis invents"),
}

EXAMPLES = 200


def main() -> None:
    look = looking(__doc__)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        saved(shop(folder / "log"), folder / "artifact")
        with serving(config_of(folder), folder) as server:
            command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{server.http.base_url}/openapi.json"]
            options = ["--max-examples", str(EXAMPLES), "--checks", "all", "--phases", "coverage,fuzzing"]
            left_out = ["--exclude-checks", "positive_data_acceptance", "--no-color"]
            run = subprocess.run([*command, *options, *left_out], capture_output=True, text=True, cwd=folder)
            statuses = [one["status"] for one in server.lines() if "status" in one]
    wrong = sum(status >= 500 and status != 503 for status in statuses)
    said = "all checks passed" if run.returncode == 0 else "checks failed, see the output"
    note = f"{len(statuses):,} requests, {said}"
    print(run.stdout[-2000:] if run.returncode else "", f"serve_fuzz_5xx {wrong}; {note}", sep="\n")
    if not look:
        record("serve_fuzz_5xx", wrong, note=note)


if __name__ == "__main__":
    main()
