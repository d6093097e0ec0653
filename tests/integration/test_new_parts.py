"""A new encoder and a new model take one word outside of their own files."""

from __future__ import annotations

from pathlib import Path

import facta
from tests import worlds
from tests.new_parts import touched


def test_a_new_encoder_and_a_new_model_touch_one_file_beside_their_own(tmp_path: Path) -> None:
    assert touched(tmp_path / "copy", facta.prepare(worlds.cycle(), tmp_path / "log")) == 1
