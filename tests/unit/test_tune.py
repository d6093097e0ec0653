"""Random search: reproducible settings, a list of trials that survives kills, and no look at the test."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

import facta
from facta.cli import app
from facta.errors import ArtifactError, ConfigError, ResourceError, TrainingError
from facta.training.identity import Identity
from facta.training.tune import Range, Space, Trial, best, overrides, search, settings, without
from tests import worlds

SPACE: Space = {
    "training.learning_rate": Range(low=1e-4, high=1e-2, log=True),
    "model.encoder.dropout": Range(low=0.1, high=0.5),
    "model.encoder.layers": Range(low=1, high=4, whole=True),
    "model.width": (16, 32, 64),
}
IDENTITY = Identity({"name": "toy"}, "abc")


def test_settings_are_a_function_of_seed_and_trial_and_key() -> None:
    assert settings(SPACE, 1, 0) == {}
    assert settings(SPACE, 1, 7) == settings(SPACE, 1, 7)
    assert settings(SPACE, 1, 7) != settings(SPACE, 2, 7)
    fewer = {key: choices for key, choices in SPACE.items() if key != "model.width"}
    assert settings(fewer, 1, 7) == {key: v for key, v in settings(SPACE, 1, 7).items() if key != "model.width"}


def test_ranges_are_filled_evenly_and_choices_alike() -> None:
    drawn = [settings(SPACE, 0, trial) for trial in range(1, 3001)]
    rates = [one["training.learning_rate"] for one in drawn]
    assert min(rates) >= 1e-4 and max(rates) <= 1e-2
    assert sum(rate < 1e-3 for rate in rates) / 3000 == pytest.approx(0.5, abs=0.04)  # a decade has half of two decades
    dropouts = [one["model.encoder.dropout"] for one in drawn]
    assert min(dropouts) >= 0.1 and max(dropouts) <= 0.5 and sum(dropouts) / 3000 == pytest.approx(0.3, abs=0.01)
    for key, values in (("model.encoder.layers", (1, 2, 3, 4)), ("model.width", (16, 32, 64))):
        counts = Counter(one[key] for one in drawn)
        assert set(counts) == set(values)
        assert all(count / 3000 == pytest.approx(1 / len(values), abs=0.04) for count in counts.values())
    both = Counter((one["model.width"], one["model.encoder.layers"]) for one in drawn)
    assert all(count / 3000 == pytest.approx(1 / 12, abs=0.03) for count in both.values())  # keys are independent


def test_what_is_printed_is_what_was_tried() -> None:
    chosen = settings(SPACE, 0, 3)
    assert len(f"{chosen['training.learning_rate']:.10g}".replace("0.", "").lstrip("0")) <= 3
    parsed = dict(text.split("=") for text in overrides({**chosen, "model.encoder.bias": "time"}))
    assert parsed.pop("model.encoder.bias") == '"time"'
    assert {key: json.loads(value) for key, value in parsed.items()} == chosen


@pytest.mark.parametrize("values", [{"low": 1, "high": 1}, {"low": 0, "high": 1, "log": True}])
def test_an_empty_range_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="below high"):
        Range(**values)  # type: ignore[arg-type]


def test_integers_end_in_integers() -> None:
    with pytest.raises(ConfigError, match=r"whole range 0\.5 to 3\.2; expected integers"):
        Range(low=0.5, high=3.2, whole=True)


class Quadratic:
    """Best at a learning rate of .001; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, trial: int, changes: list[str]) -> float:
        self.asked.append(trial)
        found = dict(change.split("=") for change in changes)
        rate = float(found.get("training.learning_rate", 1e-2))
        if trial == 2:
            raise TrainingError("The loss became nan.")
        return -abs(rate - 1e-3)


def test_a_search_goes_on_where_it_stopped_also_with_more_trials(tmp_path: Path) -> None:
    straight, first, second = Quadratic(), Quadratic(), Quadratic()
    expected = search(straight, SPACE, tmp_path / "one", IDENTITY, trials=9, seed=4)
    search(first, SPACE, tmp_path / "two", IDENTITY, trials=4, seed=4)
    with (tmp_path / "two" / "trials.jsonl").open("a") as file:
        file.write('{"trial": 4, "settings": {"a')  # killed while writing
    told: list[int] = []
    found = search(
        second, SPACE, tmp_path / "two", IDENTITY, trials=9, seed=4, progress=lambda trial: told.append(trial.trial)
    )
    assert (first.asked, second.asked, told) == ([0, 1, 2, 3], [4, 5, 6, 7, 8], list(range(9)))
    assert [(t.settings, t.value) for t in found] == [(t.settings, t.value) for t in expected]
    lines = [json.loads(line) for line in (tmp_path / "two" / "trials.jsonl").read_text().splitlines()[1:]]
    assert [line["trial"] for line in lines] == list(range(9))
    assert lines[2]["value"] is None and lines[2]["error"] == "The loss became nan."
    top = best(found, "NDCG@10")
    assert top.value == max(t.value for t in found if t.value is not None) and top.overrides == overrides(top.settings)


def test_best_is_the_first_of_equals_and_never_a_failed_one() -> None:
    trials = [Trial(0, {}, None, 1.0, "no"), Trial(1, {}, -2.0, 1.0), Trial(2, {}, -1.0, 1.0), Trial(3, {}, -1.0, 1.0)]
    assert best(trials, "NDCG@10").trial == 2
    assert best(trials, "NE(click)").trial == 1  # of which less is better


def test_another_seed_or_recipe_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    search(Quadratic(), SPACE, tmp_path, IDENTITY, trials=1)
    with pytest.raises(ArtifactError, match="tuning_seed was 0, is 1"):
        search(Quadratic(), SPACE, tmp_path, IDENTITY, trials=1, seed=1)
    with pytest.raises(ArtifactError, match="name was 'toy', is 'other'"):
        search(Quadratic(), SPACE, tmp_path, Identity({"name": "other"}, "abc"), trials=1)
    (tmp_path / "trials.jsonl").write_text("hello\n")
    with pytest.raises(ArtifactError, match="not a list of trials"):
        search(Quadratic(), SPACE, tmp_path, IDENTITY, trials=1)


def test_another_space_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    search(Quadratic(), SPACE, tmp_path, IDENTITY, trials=1)
    with pytest.raises(ArtifactError, match=r"tuning_space\.model\.width was \[16, 32, 64\], is None"):
        search(Quadratic(), without(SPACE, ["model.width"]), tmp_path, IDENTITY, trials=1)
    narrower = {**SPACE, "model.encoder.dropout": Range(low=0.1, high=0.3)}
    with pytest.raises(ArtifactError, match=r"tuning_space\.model\.encoder\.dropout\.high was 0\.5, is 0\.3"):
        search(Quadratic(), narrower, tmp_path, IDENTITY, trials=1)


@pytest.mark.parametrize(
    ("fixed", "left"),
    [
        ("model.width", {"training.learning_rate", "model.encoder.dropout", "model.encoder.layers"}),
        ("model.encoder", {"training.learning_rate", "model.width"}),
        ("model", {"training.learning_rate"}),
        ("model.width.of.what", {"training.learning_rate", "model.encoder.dropout", "model.encoder.layers"}),
        ("model.enc", set(SPACE)),
    ],
)
def test_what_is_set_is_not_searched_nor_what_lies_in_it(fixed: str, left: set[str]) -> None:
    assert set(without(SPACE, [fixed])) == left


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"Cannot write '.*file/out' .*choose a place"):
        search(Quadratic(), SPACE, tmp_path / "file" / "out", IDENTITY, trials=1)


def test_only_what_a_trial_can_cause_is_swallowed(tmp_path: Path) -> None:
    def full(*_: object) -> float:
        raise ResourceError("The disk is full.")

    with pytest.raises(ResourceError):
        search(full, SPACE, tmp_path, IDENTITY, trials=2)

    def failing(trial: int, _: list[str]) -> float:
        raise ConfigError(f"no {trial}")

    with pytest.raises(TrainingError, match=r"None of the 3 trials .* no 0"):
        search(failing, SPACE, tmp_path, IDENTITY, trials=3)


def test_nothing_to_search_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="declares nothing to search"):
        search(Quadratic(), {}, tmp_path, IDENTITY, trials=1)


def test_a_recipe_is_tuned_on_validation_and_goes_on(tmp_path: Path) -> None:
    from facta import api

    dataset = facta.prepare(worlds.cycle(), tmp_path / "data")
    space = {"training.learning_rate": Range(low=1e-5, high=0.03, log=True), "model.encoder.layers": (1, 2)}
    recipe = facta.find_recipe("debug/sasrec-ce").change(search=space)
    settings = ["training.epochs=3"]
    trials = api.tune(dataset, recipe, tmp_path / "out", settings, trials=3)
    assert [trial.settings == {} for trial in trials] == [True, False, False]
    assert len({trial.value for trial in trials}) > 1
    assert api.tune(dataset, recipe, tmp_path / "out", settings, trials=3) == trials
    fixed = api.tune(dataset, recipe, tmp_path / "fixed", [*settings, "model.encoder.layers=1"], trials=2)
    assert set(fixed[1].settings) == {"training.learning_rate"}
    with pytest.raises(ArtifactError, match=r"tuning_space\.model\.encoder\.layers was \[1, 2\], is None"):
        api.tune(dataset, recipe, tmp_path / "out", [*settings, "model.encoder.layers=2"], trials=3)  # its own value
    whole = 'model.encoder={"kind": "transformer", "layers": 1}'
    fixed = api.tune(dataset, recipe, tmp_path / "whole", [*settings, whole], trials=2)
    assert set(fixed[1].settings) == {"training.learning_rate"}
    for trial in range(3):
        folder = tmp_path / "out" / f"trial-{trial:03d}"
        assert [path.name for path in folder.iterdir()] == ["metrics.jsonl"]
    with pytest.raises(ConfigError, match="counted, not trained"):
        api.tune(dataset, "debug/popularity", tmp_path / "other", trials=1)
    with pytest.raises(ConfigError, match="has no validation"):
        api.tune(dataset, recipe, tmp_path / "other", ["protocol.split=loo-paper"], trials=1)


def test_the_command_prints_the_best_as_options_of_facta_train(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    facta.prepare(worlds.cycle(), tmp_path / "data")
    space = 'search={"training.learning_rate": [0.02], "model.encoder.layers": {"low": 1, "high": 2, "whole": true}}'
    command = ["tune", "debug/sasrec-ce", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    command += ["--trials", "2", "--set", space, "--set", "training.epochs=2"]
    app(command, standalone_mode=False)
    printed = capfd.readouterr()
    values = {line["trial"]: line["value"] for line in trials_in(tmp_path / "out")}
    assert f"trial 0: {values[0]:.4f}  the recipe itself" in printed.err
    chosen = rf"trial 1: {values[1]:.4f}  training\.learning_rate=0\.02 model\.encoder\.layers=[12]\n"
    assert re.search(chosen, printed.err)
    (best_line,) = [line for line in printed.err.splitlines() if line.startswith("Best: facta train debug/sasrec-ce")]
    assert ("--set training.learning_rate=0.02" in best_line) == (values[1] > values[0])
    assert "--set training.epochs=2" in best_line and "search" not in best_line
    app([*command, "--json"], standalone_mode=False)
    answer = json.loads(capfd.readouterr().out)
    assert [trial["value"] for trial in answer["trials"]] == [values[0], values[1]]
    assert answer["best"]["value"] == max(values.values())


def trials_in(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()[1:]]
