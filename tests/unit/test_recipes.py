"""Recipes: found by name, whole, with the published settings, and small ones that learn."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from facta import api
from facta.config import Config
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.features import Feature
from facta.data.dataset.schema import Field, SchemaConfig
from facta.data.log.prepare import prepare
from facta.data.public.sources import find as find_source
from facta.data.synthetic.simulate import SCHEMA
from facta.encoders.gru import GRUConfig
from facta.encoders.hstu import HSTUConfig
from facta.errors import ConfigError
from facta.eval.protocol import ProtocolConfig
from facta.infer.history import History
from facta.models.baselines import ItemKNNConfig
from facta.models.recommender import Recommender, RecommenderConfig
from facta.objectives.losses import GBCEConfig
from facta.recipes.find import every, find, summary
from facta.recipes.recipe import RecipeConfig
from facta.training.log import Log
from facta.training.trainer import TrainingConfig
from facta.training.tune import overrides, settings
from tests import worlds

SYSTEMS = {
    "hstu",
    "hstu-large",
    "sasrec",
    "sasrec-ss",
    "sasrec-ce",
    "gsasrec",
    "gru4rec",
    "transformer-modern",
    "ligr-ss",
    "hstu-rules",
    "sasrec-rules",
}
TIMED = {"fuxi-linear"}  # where the data has timestamps
BASELINES = {"popularity", "item-knn", "rules"}
BASE = "movielens-1m"


@pytest.fixture(scope="module")
def cycle(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepare(worlds.cycle(), tmp_path_factory.mktemp("data") / "cycle")


@pytest.mark.parametrize("folder", ["debug", "movielens-100k", "movielens-1m", "amazon-beauty"])
def test_every_folder_has_every_system(folder: str) -> None:
    names = {name.partition("/")[2] for name in every() if name.startswith(f"{folder}/")}
    assert names >= SYSTEMS | BASELINES
    timed = {"decayed-popularity", *TIMED}
    assert names & timed == (set() if folder == "amazon-beauty" else timed)  # that one has no timestamps


@pytest.mark.parametrize("folder", ["debug", "movielens-100k"])
def test_a_folder_that_is_derived_has_the_systems_of_its_base_each_changed(folder: str) -> None:
    systems = {one: {name.partition("/")[2] for name in every() if name.startswith(one)} for one in (folder, BASE)}
    assert systems[folder] == systems[BASE]
    changed, base = find(f"{folder}/hstu"), find(f"{BASE}/hstu")
    assert changed.training != base.training and changed.protocol == base.protocol
    assert find(f"{folder}/popularity").model == find(f"{BASE}/popularity").model


def catalogue_for(name: str) -> Catalogue:
    """Seven items, with what the dataset of the recipe's folder declares."""
    schemas = {"simulator": SCHEMA, "own-log": SCHEMA, "kuairand-pure": find_source("kuairand-pure").schema}
    schema = schemas.get(name.partition("/")[0], SchemaConfig())
    fields = [
        Field(name=field, role=one.role, kind=one.kind or "binary", dtype="int8", file=field, levels=(1.0, 2.0))
        for field, one in (schema.fields or {}).items()
    ]
    features = {
        feature: Feature(
            Field(name=feature, role="item", kind="categorical", dtype="str", file=feature, categories=("a", "b")),
            torch.arange(7) % 3,
        )
        for feature in ("genre", "category")
    }
    return Catalogue(7, features, tuple(fields))


@pytest.mark.parametrize("name", list(every()))
def test_a_recipe_is_whole_and_bears_its_name(name: str) -> None:
    recipe = find(name)
    assert recipe.name == name
    assert recipe == RecipeConfig.parse(recipe.model_dump(mode="json"))  # what an artifact keeps is all of it
    model = recipe.model.build(catalogue_for(name))
    assert bool(list(model.parameters())) == (recipe.training is not None)
    for trial in range(8):  # wherever a search goes, the recipe stays valid
        recipe.override(overrides(settings(recipe.search, 0, trial)))


@pytest.mark.parametrize("folder", ["kuairand-pure", "own-log", "simulator"])
def test_a_search_tries_the_prior_of_what_has_rates(folder: str) -> None:
    systems = ["dlrm", "dlrm-gr-features", "dlrm-no-history", "bst", "rates", "rates-no-history"]
    systems += [] if folder == "kuairand-pure" else ["sim", "twin", "transact"]
    for recipe in (find(f"{folder}/{system}") for system in systems):
        model = recipe.model.build(catalogue_for(recipe.name))
        assert ("model.prior" in recipe.search) == (model.rates is not None), recipe.name  # type: ignore[union-attr]


def test_the_published_settings_of_hstu() -> None:
    """Zhai et al. 2024, public configs for MovieLens-1M."""
    recipe = find("movielens-1m/hstu")
    assert isinstance(recipe.model, RecommenderConfig) and recipe.training is not None
    assert (recipe.model.window, recipe.model.width, recipe.model.next_item.similarity.temperature) == (200, 50, 0.05)
    assert recipe.training.betas == (0.9, 0.98) and recipe.training.epochs == 101
    model = recipe.model.build(Catalogue(3706))
    assert isinstance(model, Recommender)
    layer = model.encoder.layers[0]  # type: ignore[index]
    assert layer.uvqk.shape == (50, 200) and layer.position_bias.numel() >= 200 and layer.scale == 1 / 211
    large = find("movielens-1m/hstu-large").model
    assert isinstance(large, RecommenderConfig) and large.encoder.layers == 8
    assert large.encoder == recipe.model.encoder.change(layers=8, heads=2)


def test_other_encoders_take_hstus_place_and_change_nothing_else() -> None:
    exchanged = {
        "movielens-1m/fuxi-linear": "movielens-1m/hstu",
        "movielens-1m/ligr-ss": "movielens-1m/sasrec-ss",
        "amazon-beauty/ligr-ss": "amazon-beauty/sasrec-ss",
        "simulator/gr-fuxi-linear": "simulator/gr-ranking",
    }
    for name, base in exchanged.items():
        found, expected = find(name), find(base)
        assert isinstance(found.model, RecommenderConfig) and isinstance(expected.model, RecommenderConfig)
        assert found.model.encoder.layers == expected.model.encoder.layers  # type: ignore[attr-defined]
        assert found.model.change(encoder=expected.model.encoder) == expected.model
        assert (found.training, found.protocol) == (expected.training, expected.protocol)


def test_attention_may_begin_with_recent_events() -> None:
    changes = ["model.encoder.recent=40", "model.window=400", "model.encoder.init_std=1e-9"]
    model = api.find_recipe("movielens-1m/hstu", changes).model.build(Catalogue(10))
    for layer in model.encoder.layers:  # type: ignore[union-attr]
        bias = layer.position_bias.detach()
        assert bias[:2].tolist() == pytest.approx([2, 1.9], abs=1e-6) and bias[40].item() == pytest.approx(-2, abs=1e-6)
        assert torch.allclose(bias[80:401], torch.tensor(-6.0), atol=1e-6)
        assert (torch.nn.functional.silu(bias[80:401]).abs() < 0.02).all()


def test_beauty_has_no_time_bias() -> None:
    assert not any(find(name).model.uses_time for name in every() if name.startswith("amazon-beauty/"))


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("movielens-1m/bert", "movielens-1m/hstu, movielens-1m/hstu-large"),
        ("hstu", "amazon-beauty, debug, kuairand-pure, movielens-100k, movielens-1m"),
        ("recipe/find", "amazon-beauty, debug"),
        ("", "amazon-beauty, debug"),
    ],
)
def test_a_wrong_name_lists_what_there_is(name: str, listed: str) -> None:
    with pytest.raises(ConfigError, match=f"no recipe '{name}'.*{re.escape(listed)}"):
        find(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.epoch=3", "Unknown key 'epoch' for TrainingConfig; valid keys: .*epochs"),
        ("model.encoder.bias=all", r"^Config key 'model\.encoder\.bias' has the value 'all': input should be 'none'"),
        ("model.next_item.loss.negatives.count=x", r"^Config key 'model\.next_item\.loss\.negatives\.count'"),
        ("model.encoder.kind=rnn", r"^Config key 'model\.encoder' .*'hstu', 'hstu-production', .* 'gru'"),
        ('search={"training.seed": {"low": 3}}', r"required config key 'search\.training\.seed\.high' is missing"),
        ("model.encoder.colour=red", "'colour'.*valid keys"),
        ("training.epochs=0", "training.epochs"),
        ("trainings.epochs=3", "'trainings.epochs' does not exist"),
        ("epochs", "expected KEY=VALUE"),
        ("training.keep=last", r"keep=last with training\.patience=10.*set training\.patience=null"),
        ("training=null", "has a trained model without `training`"),
        ("choose=true", "choose to false"),
        ("protocol.mask=some", "nothing, history or window"),
        ("model.width=51", None),
        ("model.encoder.heads=3", "not a multiple of encoder.heads"),
        ("model.embedding.id_width=8", "embedding.id_width 8 .*embedding.features is false"),
        ("model.embedding.hidden_ids=0.1", "embedding.hidden_ids 0.1 .*embedding.features is false"),
        (
            "model.embedding.calendar=true",
            "Found embedding.calendar, which is context, for the layout 'item'",
        ),
        (
            'model.encoder={"kind": "hstu", "recent": 40, "bias": "time"}',
            "initialises the position bias, with encoder.bias time",
        ),
    ],
)
def test_a_wrong_setting_is_a_sentence(change: str, message: str | None) -> None:
    if message is None:
        assert api.find_recipe("movielens-1m/hstu", [change]).model.width == 51  # type: ignore[union-attr]
        return
    with pytest.raises(ConfigError, match=message):
        api.find_recipe("movielens-1m/hstu", [change])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: ProtocolConfig(split="x"), "^Config key 'split' has the value 'x': input should be 'loo-val'"),  # type: ignore[arg-type]
        (lambda: TrainingConfig(epochs=0, batch_size="b"), "^Config key 'epochs' .* Config key 'batch_size' .*'b'"),  # type: ignore[arg-type]
        (lambda: RecipeConfig(name="r"), "^The required config key 'model' is missing"),  # type: ignore[call-arg]
        (lambda: RecommenderConfig(encoder={"kind": "hstu", "bias": "x"}), r"^Config key 'encoder\.bias'"),  # type: ignore[arg-type]
        (lambda: RecipeConfig(name="r", model=RecommenderConfig(width="w")), "^Config key 'width'"),  # type: ignore[arg-type]
        (lambda: ProtocolConfig(colour="red"), "^Unknown key 'colour' for ProtocolConfig; valid keys: .*mask"),  # type: ignore[call-arg]
    ],
)
def test_a_config_built_directly_says_what_is_wrong_in_sentences(given: Callable[[], Config], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        given()
    assert "\n" not in str(refused.value)


def test_a_counted_model_is_not_trained_and_chooses_or_is_told() -> None:
    with pytest.raises(ConfigError, match="counted, not trained"):
        api.find_recipe("debug/popularity", ["training={}"])
    with pytest.raises(ConfigError, match="choose to false"):
        api.find_recipe("debug/item-knn", ["model.shrinkage=3"])
    told = api.find_recipe("debug/item-knn", ["model.shrinkage=3", "choose=false"])
    assert told.model.shrinkage == 3  # type: ignore[union-attr]


@pytest.mark.parametrize("system", sorted(SYSTEMS | TIMED))
def test_the_debug_recipes_learn_the_cycle_in_seconds(cycle: Dataset, tmp_path: Path, system: str) -> None:
    artifact = api.train(cycle, f"debug/{system}", tmp_path / "artifact", log=Log("quiet"))
    assert api.evaluate(artifact, cycle).means["NDCG@10"] > 0.75  # popularity: 0.5
    days = [1_600_000_000_000 + place * worlds.DAY for place in range(5)]
    assert 6 in artifact.recommend(History([2, 3, 4, 5], days[:4]), 3, at=days[4]).ids[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("system", sorted(SYSTEMS | TIMED))
def test_a_gpu_learns_the_same_with_the_same_bits_every_time(cycle: Dataset, tmp_path: Path, system: str) -> None:
    made = [api.train(cycle, f"debug/{system}", tmp_path / name, device="cuda", log=Log("quiet")) for name in "ab"]
    assert api.evaluate(made[0], cycle).means["NDCG@10"] > 0.75
    assert made[0].fingerprint == made[1].fingerprint


@pytest.mark.parametrize("system", ["hstu", "popularity", "item-knn"])
@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cpu:cpu"])
def test_a_device_that_is_not_there_is_a_sentence(cycle: Dataset, tmp_path: Path, device: str, system: str) -> None:
    with pytest.raises(ConfigError, match=f"device '{device}', which torch cannot use here"):
        api.train(cycle, f"debug/{system}", tmp_path / "artifact", device=device, log=Log("quiet"))


@pytest.mark.parametrize("choose", ["true", "false"])
def test_what_is_counted_is_counted_on_the_cpu(cycle: Dataset, tmp_path: Path, choose: str) -> None:
    with pytest.raises(ConfigError, match="device 'meta' for a model of kind 'item-knn', which is counted on the CPU"):
        api.train(cycle, "debug/item-knn", tmp_path / "artifact", [f"choose={choose}"], device="meta", log=Log("quiet"))


def test_a_mapping_changes_the_settings_that_it_names_and_no_other() -> None:
    recipe = find("movielens-1m/hstu")
    assert recipe.training is not None and recipe.training.batch_size != TrainingConfig().batch_size
    changed = recipe.change(training={"epochs": 3}, model={"encoder": {"layers": 7}})
    assert changed == recipe.override(["training.epochs=3", "model.encoder.layers=7"])
    assert changed == recipe.override({"training.epochs": 3, "model.encoder.layers": 7})
    assert changed == recipe.override(['training={"epochs": 3}', 'model={"encoder": {"layers": 7}}'])
    assert changed.training == recipe.training.change(epochs=3)
    assert changed.model.change(encoder=recipe.model.encoder) == recipe.model  # type: ignore[union-attr]
    whole = TrainingConfig(epochs=3, metric="NDCG@10")
    assert recipe.change(training=whole).training == whole  # a config is meant as a whole


def test_a_part_exchanged_by_its_kind_starts_from_the_defaults_of_that_kind() -> None:
    recipe = find("movielens-1m/hstu").override(["model.encoder.layers=5"])
    changed = [
        recipe.override(["model.encoder.kind=gru"]),
        recipe.override({"model.encoder": {"kind": "gru"}}),
        recipe.change(model={"encoder": {"kind": "gru"}}),
    ]
    assert [one.model.encoder for one in changed] == [GRUConfig()] * 3  # type: ignore[union-attr]
    settings = ["model.encoder.layers=3", "model.encoder.kind=gru"]
    for order in (settings, settings[::-1]):
        assert recipe.override(order).model.encoder == GRUConfig(layers=3)  # type: ignore[union-attr]
    same = recipe.override(["model.encoder.kind=hstu", "model.encoder.dropout=0"])
    assert same.model.encoder == recipe.model.encoder.change(dropout=0)  # type: ignore[union-attr]
    loss = recipe.override(["model.next_item.loss.kind=gbce", "model.next_item.loss.negatives.kind=mixed"])
    assert loss.model.next_item.loss.negatives == GBCEConfig().negatives.change(kind="mixed")  # type: ignore[union-attr]
    counted = recipe.override(["model.kind=item-knn", "training=null", "model.window=9"])
    assert counted.model == ItemKNNConfig(window=9)
    with pytest.raises(ConfigError, match="'bias' for GRUConfig; valid keys"):
        recipe.override(["model.encoder.kind=gru", "model.encoder.bias=none"])


def test_a_config_class_of_ones_own_is_refused_where_nothing_would_build_it() -> None:
    class Wider(HSTUConfig):
        extra: int = 3

    class Own(RecommenderConfig):
        encoder: Wider = Wider()  # type: ignore[assignment]

    with pytest.raises(ConfigError, match="Found encoder of class Wider in a RecommenderConfig"):
        RecommenderConfig(encoder=Wider())
    with pytest.raises(ConfigError, match="Found model of class Own in a RecipeConfig"):
        find("debug/hstu").change(model=Own())


@pytest.mark.parametrize("name", every())
def test_a_recipe_says_what_it_is(name: str) -> None:
    said = summary(every()[name])
    assert said.endswith(".") and 20 < len(said) < 200, said
