"""Users are divided between the models of a service by a hash of their ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facta.errors import ConfigError
from facta.serve.config import ServeConfig
from facta.serve.models import Models
from facta.serve.problems import RequestError


def models(folder: Path, **shares: float) -> Models:
    (folder / "schema.json").write_text(json.dumps({"ids": {"user": "number", "item": "number"}}))
    (folder / "checksums.json").write_text("{}")
    named = {name: {"artifact": str(folder), "share": share} for name, share in shares.items()}
    return Models(ServeConfig(models={"default": {"artifact": str(folder)}, **named}))


def test_each_user_has_one_model_and_shares_are_kept(tmp_path: Path) -> None:
    three = models(tmp_path, b=0.3, c=0.2)
    chosen = [three.of(None, user).config.name for user in range(4000)]
    assert abs(chosen.count("b") / 4000 - 0.3) < 0.03 and abs(chosen.count("c") / 4000 - 0.2) < 0.03
    again = models(tmp_path, b=0.3, c=0.2)
    assert chosen == [again.of(None, user).config.name for user in range(4000)]


def test_a_larger_share_takes_nobody_away(tmp_path: Path) -> None:
    few, many = models(tmp_path, b=0.1), models(tmp_path, b=0.4)
    assert all(many.of(None, user).config.name == "b" for user in range(500) if few.of(None, user).config.name == "b")


def test_a_name_wins_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    two = models(tmp_path, b=1.0)
    assert two.of("default", 1).config.name == "default" and two.of(None, 1).config.name == "b"
    with pytest.raises(RequestError, match="there are b, default"):
        two.of("c", 1)
    with pytest.raises(ConfigError, match="more than 1"):
        models(tmp_path, b=0.6, c=0.6)
