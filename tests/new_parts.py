"""A new encoder and a new model in a copy of the package: one file each, and a word elsewhere."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import facta
from facta.ops import backend

SOURCE = Path(facta.__file__).parent

ENCODER = """
from typing import Literal

from torch import Tensor, nn

from facta.encoders.encoder import Encoder, EncoderConfig, TokenCost


class TokenwiseConfig(EncoderConfig):
    kind: Literal["tokenwise"] = "tokenwise"

    def build(self, width: int, window: int) -> Encoder:
        return Tokenwise(width)

    def cost(self, width: int, seen: float) -> TokenCost:
        return TokenCost(2.0 * width * width, 4.0 * width, 0.0)


class Tokenwise(Encoder):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x: Tensor, tokens, memory=None) -> Tensor:
        return x + self.layer(x)
"""

MODEL = '''
from typing import Literal

import torch

from facta.models.model import Model, ModelConfig


class AlphabeticalConfig(ModelConfig):
    kind: Literal["alphabetical"] = "alphabetical"
    trained = False

    @property
    def tasks(self):
        return ("next_item",)

    def build(self, catalogue, seed=0):
        return Alphabetical(self, catalogue.items)


class Alphabetical(Model):
    """Lower rows first."""

    def __init__(self, config, items):
        super().__init__()
        self.config, self.window = config, 1
        self.register_buffer("order", -torch.arange(items, dtype=torch.float32))

    def catalogue_scores(self, batch):
        return self.order.expand(len(batch.targets.num_visible), -1)
'''

USE = """
import sys
sys.meta_path[:] = [one for one in sys.meta_path if isinstance(one, type)]  # not that of an editable installation
import pathlib
import facta
assert pathlib.Path(facta.__file__).parent.samefile("facta")
from facta import RecipeConfig
from facta.training.log import Log
log = facta.Dataset.open("log")
changes = {"model.encoder": {"kind": "tokenwise"}, "training.epochs": 1}
facta.train(log, "debug/hstu", "encoder", changes, log=Log("quiet"))
recipe = RecipeConfig.parse({"name": "mine", "model": {"kind": "alphabetical"}})
facta.train(log, recipe, "model", log=Log("quiet"))
for place in ("encoder", "model"):
    facta.evaluate(place, log)
    assert len(facta.load(place).recommend([log.items["item_id"][0]], 3, at="2030-01-01").ids[0]) == 3
"""


def touched(folder: Path, log: facta.Dataset) -> int:
    """Put both into a copy of the package, use them by every verb, and count the files of facta that had to change; the
    larger number of the two. Raises CalledProcessError where they do not work.
    """
    package = folder / "facta"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
    native = backend.module()
    if native is not None:
        shutil.copy(native.__file__, package / "ops")
    (package / "encoders" / "tokenwise.py").write_text(ENCODER)
    (package / "models" / "alphabetical.py").write_text(MODEL)
    _add(package / "encoders" / "known.py", "tokenwise", "TokenwiseConfig", "GRUConfig")
    _add(package / "models" / "known.py", "alphabetical", "AlphabeticalConfig", "ItemKNNConfig")
    (folder / "log").symlink_to(log.path.resolve())
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    subprocess.run([sys.executable, "-c", USE], cwd=folder, env=environment, check=True)
    changed = [place.relative_to(package).parts[0] for place in package.rglob("*.py") if _changed(place, package)]
    return max(changed.count("encoders"), changed.count("models")) + len({*changed} - {"encoders", "models"})


def _add(known: Path, name: str, config: str, beside: str) -> None:
    """The line that names a new kind, and its import."""
    text = known.read_text()
    assert text.count(f"{beside},") + text.count(f"{beside})") >= 1
    text = text.replace("from facta.kinds", f"from facta.{known.parent.name}.{name} import {config}\nfrom facta.kinds")
    place = text.rindex(beside)
    known.write_text(f"{text[:place]}{config}, {text[place:]}")


def _changed(place: Path, package: Path) -> bool:
    """Whether a file was there before and differs."""
    before = SOURCE / place.relative_to(package)
    return before.exists() and not filecmp.cmp(before, place, shallow=False)
