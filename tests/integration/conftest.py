"""The command line as tests call it."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from facta import cli


class Said:
    """What one command printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Facta = Callable[..., Said]


@pytest.fixture
def facta(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Facta:
    """Run a command line in this process, through the function that the console script calls."""

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["facta", *map(str, arguments)])
        monkeypatch.delenv("FACTA_DEBUG", raising=False)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Said(int(ended.value.code or 0), captured.out, captured.err)

    return run
