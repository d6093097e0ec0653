"""Parts from outside: a class of anybody's module in every verb, named in recipes and artifacts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import facta
from facta.errors import ArtifactError, ConfigError
from facta.recipes.find import find
from facta.training.log import Log
from tests import worlds

PARTS = '''
from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from facta import jagged
from facta.encoders.encoder import Encoder, EncoderConfig, TokenCost
from facta.layouts.layout import Layout
from facta.models.counted import CountedConfig
from facta.models.model import Model, ModelConfig
from facta.similarity.similarity import Similarity, SimilarityConfig
from facta.types import LossSum

TWICE = Layout(("context", "item"), ("item", "feedback"))


class MeanConfig(EncoderConfig):
    rate: float = Field(default=0.5, gt=0)

    def build(self, width: int, window: int) -> Mean:
        return Mean(width, self.rate)

    def cost(self, width: int, seen: float) -> TokenCost:
        return TokenCost(2.0 * width * width, 8.0 * width, 4.0 * width)


class Mean(Encoder):
    """x + W · (the mean of what is seen, at a rate)."""

    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        self.rate, self.out = rate, nn.Linear(width, width)

    def forward(self, x: Tensor, tokens) -> Tensor:
        sums = torch.cat([x.new_zeros(1, x.shape[1]), x.cumsum(0)])
        row = jagged.rows(tokens.offsets)
        first = tokens.offsets[row]
        seen = sums[first + tokens.sees] - sums[first] + x
        return x + self.out(self.rate * seen / (tokens.sees + 1)[:, None])


class DistanceConfig(SimilarityConfig):
    def build(self, width: int) -> Distance:
        return Distance(width)


class Distance(Similarity):
    """-|state - item|²."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def queries(self, states: Tensor) -> Tensor:
        return states * self.scale

    def items(self, vectors: Tensor) -> Tensor:
        return vectors

    def flops(self, count: int) -> float:
        return 3.0 * len(self.scale) * count

    def scores(self, queries: Tensor, items: Tensor, index=None, keys=None) -> Tensor:
        items = items[None] if index is None else items[index]
        return -(queries[:, None] - items).square().sum(dim=2)


class BiasConfig(ModelConfig):
    """Learned popularity: one number for each item."""

    window: int = 5

    @property
    def tasks(self):
        return ("next_item",)

    def build(self, catalogue, seed: int = 0) -> Bias:
        return Bias(self, catalogue.items)


class Bias(Model):
    def __init__(self, config: BiasConfig, items: int) -> None:
        super().__init__()
        self.config, self.window = config, config.window
        self.bias = nn.Parameter(torch.zeros(items))

    def forward(self, batch, negatives):
        targets = batch.targets
        each = -torch.log_softmax(self.bias, 0)[targets.events.item]
        return {"next_item": LossSum((each * targets.weight).sum(), targets.weight.sum())}

    def catalogue_scores(self, batch) -> Tensor:
        return self.bias.expand(len(batch.targets.num_visible), -1)


class RepeatConfig(CountedConfig):
    """What one had most often."""

    def build(self, catalogue, seed: int = 0) -> Repeat:
        return Repeat(self, catalogue.items)


class Repeat(Model):
    def __init__(self, config: RepeatConfig, items: int) -> None:
        super().__init__()
        self.config, self.window, self.items = config, 20, items
        self.register_buffer("events", torch.zeros(()))

    def fit_statistics(self, statistics):
        self.events.fill_(statistics.counts.sum())
        return self

    def catalogue_scores(self, batch) -> Tensor:
        row = jagged.rows(batch.offsets)
        found = torch.zeros(len(batch.offsets) - 1, self.items)
        found.index_put_((row, batch.events.item), torch.ones(len(row)), accumulate=True)
        return found


class NoEncoder:
    pass


class Kinded(MeanConfig):
    kind: str = "mine"
'''
QUIET = Log("quiet")
CHANGES = ["model.encoder.kind=my_parts:MeanConfig", "model.encoder.rate=0.7"]
SHORT = ["training.epochs=2", "training.patience=null", "training.keep=last"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of somebody's own, from which facta is called."""
    (tmp_path / "my_parts.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    return tmp_path


@pytest.fixture
def log(home: Path) -> facta.Dataset:
    return facta.prepare(worlds.checkerboard(users=30), home / "log")


def unload() -> None:
    sys.modules.pop("my_parts")


def test_an_encoder_and_a_similarity_of_ones_own_in_every_verb(home: Path, log: facta.Dataset) -> None:
    changes = [*CHANGES, *SHORT, "model.next_item.similarity.kind=my_parts:DistanceConfig"]
    artifact = facta.train(log, "debug/hstu", home / "a", changes, log=QUIET)
    saved = json.loads((home / "a" / "config.json").read_text())["model"]
    assert saved["encoder"] == {"kind": "my_parts:MeanConfig", "rate": 0.7}
    assert saved["next_item"]["similarity"] == {"kind": "my_parts:DistanceConfig"}
    assert artifact.model.next_item.similarity.scale.ne(1).any()  # type: ignore[union-attr]  # it was learned, too
    expected = facta.evaluate(artifact, log)
    assert facta.evaluate(facta.load(home / "a"), log).means == expected.means
    answer = artifact.recommend([[0, 1, 2], []], k=3, at="2030-01-01")
    assert len(answer.ids[0]) == 3 and answer.scores[0] == sorted(answer.scores[0], reverse=True)
    assert artifact.recommend_users(log, 3, at="2030-01-01").height == 3 * log.num_users
    trials = facta.tune(log, "debug/hstu", home / "t", [*CHANGES, *SHORT, "training.keep=best"], trials=1, log=QUIET)
    assert len(trials) == 1


def test_a_layout_of_ones_own(home: Path) -> None:
    log = facta.prepare(worlds.colours(users=30), home / "colours", fields={"click": {"positive": "= 1"}})
    feedback = ["model.feedback={}", "model.next_item=null", "training.metric=NE(click)"]
    changes = ["model.layout=my_parts:TWICE", *feedback, *SHORT]
    artifact = facta.train(log, "debug/hstu", home / "a", changes, log=QUIET)
    assert artifact.model.layout.shows == (("context", "item"), ("item", "feedback"))  # type: ignore[union-attr]
    said, expected = (facta.predict(one, log).p["click"] for one in (facta.load(home / "a"), artifact))
    assert said.tolist() == expected.tolist()
    with pytest.raises(ConfigError, match=r"There is no layout 'twice'; expected item, .* cloze or module:NAME"):
        facta.find_recipe("debug/hstu", ["model.layout=twice"])


@pytest.mark.parametrize("kind", ["BiasConfig", "RepeatConfig"])
def test_a_model_of_ones_own_in_every_verb(home: Path, log: facta.Dataset, kind: str) -> None:
    """Trained, or counted; nothing of facta knows it."""
    import my_parts

    like = find("debug/hstu") if kind == "BiasConfig" else find("debug/popularity")
    recipe = like.change(name="mine", model=getattr(my_parts, kind)())
    recipe = recipe.override(SHORT) if kind == "BiasConfig" else recipe
    artifact = facta.train(log, recipe, home / "a", log=QUIET)
    loaded = facta.load(home / "a")
    assert loaded.config["model"]["kind"] == f"my_parts:{kind}" == artifact.config["model"]["kind"]
    found = facta.evaluate(loaded, log, facta.ProtocolConfig(mask="nothing"))
    assert found.means == facta.evaluate(artifact, log, facta.ProtocolConfig(mask="nothing")).means
    answer = loaded.recommend([3, 3, 5], k=2, exclude="nothing")
    assert len(answer.ids[0]) == 2 and (kind == "BiasConfig" or answer.ids[0] == [3, 5])
    with pytest.raises(ConfigError, match="scores no feedback"):
        loaded.rank([3], [1, 2])
    with pytest.raises(ConfigError, match=r"learned no feedback"):
        facta.predict(loaded, log)
    assert f"of kind `my_parts:{kind}` with" in (home / "a" / "README.md").read_text()


def test_an_artifact_names_the_module_that_it_needs_and_imports_nothing(home: Path, log: facta.Dataset) -> None:
    facta.train(log, "debug/hstu", home / "a", [*CHANGES, *SHORT], log=QUIET)
    unload()
    with pytest.raises(ArtifactError, match=r"'my_parts:MeanConfig' is no part of facta.*import it before"):
        facta.load(home / "a")
    assert "my_parts" not in sys.modules
    import my_parts  # type: ignore[import-not-found]

    assert facta.load(home / "a").model.encoder.__class__ is my_parts.Mean  # type: ignore[union-attr]


def test_the_command_line_imports_what_is_named(home: Path, log: facta.Dataset) -> None:
    def facta_(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "facta", *words], capture_output=True, text=True, cwd=home, check=False
        )

    settings = [word for change in (*CHANGES, *SHORT) for word in ("--set", change)]
    trained = facta_("train", "debug/hstu", "--data", "log", "--out", "a", *settings)
    assert trained.returncode == 0, trained.stderr
    refused = facta_("info", "a")
    assert refused.returncode != 0 and "facta --import my_parts info ARTIFACT" in refused.stderr
    assert "Traceback" not in refused.stderr
    shown = facta_("--import", "my_parts", "info", "a", "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["model"]["encoder"]["kind"] == "my_parts:MeanConfig"
    missing = facta_("--import", "not_there", "info", "a")
    assert missing.returncode != 0 and "The module 'not_there' cannot be imported" in missing.stderr


def test_a_recipe_in_a_file_names_a_part(home: Path) -> None:
    recipe = find("debug/hstu").model_dump(mode="json")
    recipe["model"]["encoder"] = {"kind": "my_parts:MeanConfig"}
    (home / "r.json").write_text(json.dumps(recipe))
    found = facta.find_recipe("r.json")
    assert found.model.encoder.rate == 0.5  # type: ignore[attr-defined]
    assert found.change(model={"encoder": {"rate": 0.9}}).model.encoder.rate == 0.9  # type: ignore[attr-defined]
    again = facta.RecipeConfig.parse(found.model_dump(mode="json"))
    assert again == found
    back = found.override(["model.encoder.kind=gru"])
    assert back.model.encoder == find("debug/hstu").override(["model.encoder.kind=gru"]).model.encoder  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("my_parts:Nothing", "The module 'my_parts' has no 'Nothing'"),
        ("my_parts:NoEncoder", "'my_parts:NoEncoder' is no EncoderConfig"),
        ("my_part:MeanConfig", "The module 'my_part' cannot be imported .* and 'my_part:MeanConfig' needs it"),
    ],
)
def test_what_is_no_part_is_refused(home: Path, kind: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        facta.find_recipe("debug/hstu", [f"model.encoder.kind={kind}"])


def test_a_class_of_ones_own_has_no_kind_of_its_own(home: Path) -> None:
    """It could not be found again by it."""
    import my_parts

    with pytest.raises(ConfigError, match=r"declares a kind; leave it out: its kind is 'my_parts:Kinded'"):
        find("debug/hstu").model.change(encoder=my_parts.Kinded())
    own = find("debug/hstu").model.change(encoder=my_parts.MeanConfig(rate=0.3))
    assert own.model_dump(mode="json")["encoder"] == {"kind": "my_parts:MeanConfig", "rate": 0.3}


def test_a_wrong_setting_of_a_part_from_outside_is_a_sentence(home: Path) -> None:
    with pytest.raises(ConfigError, match="'rate' has the value -1: input should be greater than 0"):
        facta.find_recipe("debug/hstu", [*CHANGES[:1], "model.encoder.rate=-1"])
    with pytest.raises(ConfigError, match="Unknown key 'layers' for MeanConfig; valid keys: rate"):
        facta.find_recipe("debug/hstu", [*CHANGES[:1], "model.encoder.layers=3"])
