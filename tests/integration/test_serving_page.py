"""docs/serving.md: its commands run as printed, against a service that its own command starts, and the list changes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Facta
from tests.integration.test_readme import blocks
from tests.pages import commands, service, write_files
from tests.serving import free_port

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"


def test_the_page_runs_and_the_list_changes(
    facta: Facta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recipe that trains in a second, and a free port; what waits for nothing runs in this process."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    port, running, answers = str(free_port()), None, list[Any]()
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    try:
        for typed in commands(PAGE):
            command = typed.replace("own-log/hstu", "debug/hstu").replace("8000", port)
            if command.startswith("curl"):
                answers.append(json.loads(subprocess.check_output(["bash", "-c", command], env=env)))
            elif command.startswith("facta serve") and "--check" not in command:
                running = service(f"{command} --port {port}", tmp_path, env)
            else:
                words = shlex.split(command)[1:]
                said = facta(*words, *(["--port", free_port()] if "--check" in words else []))
                assert said.code == 0, f"{typed}: {said.err}"
        before, posted, after = answers
        assert posted["accepted"] == 1 and before["source"] == after["source"] == "model"
        assert [one["id"] for one in before["items"]] != [one["id"] for one in after["items"]]
        capsys.readouterr()
        for code in blocks(PAGE, "python"):
            exec(compile(code.replace("8000", port), "serving.md", "exec"), {})
        shown = capsys.readouterr().out.splitlines()
        assert "'accepted': 1" in shown[0] and len(shown) == 5 and re.fullmatch(r"\d+", shown[-1])
    finally:
        if running is not None:
            running.terminate()
            running.wait(20)
