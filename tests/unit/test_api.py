"""The verbs in Python: what is trained is what is loaded, measured and served."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import facta
from facta.eval.experiment import Experiment
from facta.training.log import Log
from tests import worlds

QUIET = Log("quiet")
SHORT = ["training.epochs=2"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> facta.Dataset:
    return facta.prepare(worlds.checkerboard(), tmp_path_factory.mktemp("data") / "log")


@pytest.fixture(scope="module")
def artifact(log: facta.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifacts") / "hstu"
    facta.train(log, "debug/hstu", path, SHORT, log=QUIET)
    return path


def test_a_trained_artifact_answers_the_same_when_loaded(log: facta.Dataset, tmp_path: Path) -> None:
    trained = facta.train(log, "debug/hstu", tmp_path / "a", SHORT, log=QUIET)
    loaded = facta.load(tmp_path / "a")
    histories = [facta.history_of(log, user) for user in (0, 1, 2)]
    at = "2022-01-01"
    assert trained.recommend(histories, at=at) == loaded.recommend(histories, at=at)
    assert trained.fingerprint == loaded.fingerprint


def test_training_again_gives_the_same_fingerprint(log: facta.Dataset, artifact: Path, tmp_path: Path) -> None:
    again = facta.train(log, "debug/hstu", tmp_path / "again", SHORT, log=QUIET)
    assert again.fingerprint == facta.load(artifact).fingerprint


def test_the_numbers_in_an_artifact_are_those_of_an_evaluation(log: facta.Dataset, artifact: Path) -> None:
    loaded = facta.load(artifact)
    for summary in loaded.metrics:
        result = facta.evaluate(artifact, log, stage=summary["stage"])
        assert result.summary() == json.loads(json.dumps(summary))
        assert summary["protocol"].startswith("loo-val/") and summary["dataset"] == log.content_hash
    assert [summary["stage"] for summary in loaded.metrics] == ["validation", "test"]


@pytest.mark.parametrize(
    "protocol",
    [
        ["mask=history"],
        ["mask=window(2)"],
        ["mask=nothing"],
        ["split=temporal", "train_end=2020-09-17T12:00", "validation_end=2020-09-18T12:00"],
    ],
    ids=["history", "window", "nothing", "temporal"],
)
@pytest.mark.parametrize("recipe", ["debug/hstu", "debug/item-knn", "debug/rules"])
def test_evaluation_and_engine_recommend_the_same(tmp_path: Path, recipe: str, protocol: list[str]) -> None:
    """Offline lists and lists asked for, request by request: same history, same time, same items hidden; also where
    only held-out events show an item, and where a history has no other."""
    late = pl.DataFrame({"user_id": [500] * 3, "item_id": [99, 3, 98], "day": [17, 18, 19]}).select(
        "user_id", "item_id", pl.datetime(2020, 9, "day", 13).dt.epoch("ms").alias("timestamp")
    )
    log = facta.prepare(pl.concat([worlds.checkerboard(), late]), tmp_path / "log")
    settings = [f"protocol.{setting}" for setting in [*protocol, "rank=trained"]]
    artifact = facta.train(log, recipe, tmp_path / "a", [*settings, *(SHORT if "hstu" in recipe else [])], log=QUIET)
    offline = facta.evaluate(artifact, log, ks=(5,)).lists
    requests = Experiment(log, facta.ProtocolConfig.parse(artifact.config["protocol"])).requests("test")
    whole = [facta.history_of(log, user) for user in log.users["user_id"].gather(requests.user)]
    asked = [
        facta.History(one.items[:end], one.times[:end])  # type: ignore[index]
        for one, end in zip(whole, requests.end, strict=True)
    ]
    answer = artifact.recommend(asked, 5, at=requests.time.tolist())  # type: ignore[union-attr]
    cold = "split=temporal" in protocol
    assert ((artifact.catalogue["training_events"] == 0).sum(), answer.source.count("popularity")) == (1 + cold, cold)
    rows = [artifact.rows_of(ids).tolist() for ids in answer.ids]
    assert rows == [[row for row in line if row >= 0] for line in offline.tolist()]


def test_held_out_events_are_not_counted_as_training(log: facta.Dataset, artifact: Path) -> None:
    counted = facta.load(artifact).catalogue["training_events"].to_numpy()
    kept = [log.item[start : stop - 2] for start, stop in zip(log.offsets[:-1], log.offsets[1:], strict=True)]
    assert counted.tolist() == np.bincount(np.concatenate(kept), minlength=log.num_items).tolist()


@pytest.mark.parametrize("recipe", ["debug/item-knn", "debug/rules"])
def test_the_settings_that_a_baseline_chose_are_kept(log: facta.Dataset, tmp_path: Path, recipe: str) -> None:
    facta.train(log, recipe, tmp_path / "knn")
    loaded = facta.load(tmp_path / "knn")
    assert loaded.config["model"] == loaded.model.config.model_dump(mode="json")
    assert facta.RecipeConfig.parse(loaded.config).model == loaded.model.config
    assert facta.evaluate(loaded, log).means == facta.evaluate(tmp_path / "knn", log).means


def test_nothing_is_trained_where_nothing_may_be_written(log: facta.Dataset, artifact: Path) -> None:
    before = facta.load(artifact).fingerprint
    with pytest.raises(facta.ArtifactError, match="exists already"):
        facta.train(log, "debug/popularity", artifact)
    assert facta.load(artifact).fingerprint == before


def test_overwriting_starts_the_run_afresh(log: facta.Dataset, tmp_path: Path) -> None:
    out = tmp_path / "a"
    facta.train(log, "debug/hstu", out, ["training.epochs=1"], log=QUIET)
    with pytest.raises(facta.ArtifactError, match="exists already"):
        facta.train(log, "debug/hstu", out, SHORT, log=QUIET)
    again = facta.train(log, "debug/hstu", out, SHORT, overwrite=True, log=QUIET)
    assert again.config["training"]["epochs"] == 2
    assert facta.load(out).fingerprint == again.fingerprint
    assert (facta.run_folder(out) / "metrics.jsonl").is_file()
    assert not (facta.run_folder(out) / "checkpoints").exists()  # not needed once the artifact stands


def test_an_overwriting_run_that_was_stopped_goes_on(
    log: facta.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a"
    first = facta.train(log, "debug/hstu", out, ["training.epochs=1"], log=QUIET).fingerprint
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr("facta.recipes.measure.evaluate", stop)
        facta.train(log, "debug/hstu", out, SHORT, overwrite=True, log=QUIET)
    assert facta.load(out).fingerprint == first
    facta.train(log, "debug/hstu", out, SHORT, overwrite=True, log=Log("plain"))
    assert "Going on from step" in capsys.readouterr().err
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr("facta.recipes.measure.evaluate", stop)
        facta.train(log, "debug/hstu", out, SHORT, overwrite=True, log=QUIET)
    facta.train(log, "debug/hstu", out, ["training.epochs=1"], overwrite=True, log=Log("plain"))
    assert "Going on from step" not in capsys.readouterr().err
    assert facta.load(out).fingerprint == first


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("file", ["notes.txt", "checkpoints/mine.pt", "metrics.jsonl"])
def test_a_folder_of_somebody_else_is_left_alone(
    log: facta.Dataset, tmp_path: Path, file: str, overwrite: bool
) -> None:
    own = facta.run_folder(tmp_path / "a") / file
    own.parent.mkdir(parents=True)
    own.write_text('{"loss": 1.0}\n')
    for recipe in ("debug/hstu", "debug/popularity"):
        with pytest.raises(facta.ArtifactError, match=r"a\.run', .* has files of no run; move them away"):
            facta.train(log, recipe, tmp_path / "a", SHORT if recipe == "debug/hstu" else [], overwrite=overwrite)
    assert own.read_text() == '{"loss": 1.0}\n'
    assert not (tmp_path / "a").exists()


def test_a_run_that_another_process_trains_is_not_overwritten(log: facta.Dataset, tmp_path: Path) -> None:
    out, refused = tmp_path / "a", []

    class Meddling(Log):
        def validation(self, *arguments: Any) -> None:
            found = sorted(facta.run_folder(out).rglob("*"))
            with pytest.raises(facta.ResourceError, match="Another process is training in"):
                facta.train(log, "debug/sasrec", out, SHORT, overwrite=True, log=QUIET)
            refused.append(sorted(facta.run_folder(out).rglob("*")) == found)

    facta.train(log, "debug/hstu", out, SHORT, log=Meddling("quiet"))
    assert refused == [True, True] and facta.load(out).config["name"] == "debug/hstu"


@pytest.mark.parametrize("journal", [None, "", '{"event": "st'])
def test_a_run_that_was_killed_before_it_began_is_begun(
    log: facta.Dataset, tmp_path: Path, journal: str | None
) -> None:
    folder = facta.run_folder(tmp_path / "a")
    (folder / "checkpoints").mkdir(parents=True)
    if journal is not None:
        (folder / "metrics.jsonl").write_text(journal)
    facta.train(log, "debug/hstu", tmp_path / "a", SHORT, overwrite=True, log=QUIET)
    assert (folder / "metrics.jsonl").read_text().startswith('{"event": "start"')


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_model_is_not_asked_for_what_it_was_trained_on(log: facta.Dataset, artifact: Path, tmp_path: Path) -> None:
    temporal = facta.ProtocolConfig(split="temporal", train_end="50%", validation_end="75%")
    with pytest.raises(facta.ProtocolError, match=r"trained under loo-val.* may have seen"):
        facta.evaluate(artifact, log, temporal)
    facta.train(log, "debug/popularity", tmp_path / "paper", ["protocol.split=loo-paper"])
    validated = facta.ProtocolConfig(split="loo-val")
    for stage in ("test", "validation"):
        with pytest.raises(facta.ProtocolError, match=f"may have seen the targets of the {stage} stage"):
            facta.evaluate(tmp_path / "paper", log, validated, stage=stage)
    with pytest.raises(facta.ProtocolError, match="trained under loo-val"):
        facta.evaluate(artifact, log, facta.ProtocolConfig(split="loo-paper"))
    unmasked = facta.evaluate(artifact, log, facta.ProtocolConfig(mask="nothing"))
    with pytest.raises(facta.ProtocolError, match="different protocols"):
        facta.compare(unmasked, facta.evaluate(artifact, log), "NDCG@10")


@pytest.mark.parametrize(("protocol", "message"), [("loo-val", "expected KEY=VALUE"), (3, r"expected \['training")])
def test_a_protocol_is_given_as_one(log: facta.Dataset, artifact: Path, protocol: object, message: str) -> None:
    with pytest.raises(facta.ConfigError, match=message):
        facta.evaluate(artifact, log, protocol=protocol)  # type: ignore[arg-type]


def test_a_recipe_is_a_name_or_a_config(log: facta.Dataset, tmp_path: Path) -> None:
    with pytest.raises(facta.ConfigError, match=r"recipe of type dict; expected a name, as in .*RecipeConfig\.parse"):
        facta.train(log, {"name": "debug/hstu"}, tmp_path / "a", SHORT)  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists()


def test_the_doctor_examines_a_log_and_what_was_prepared_from_it(log: facta.Dataset) -> None:
    frame = worlds.checkerboard()
    names = {"user_id": "who", "item_id": "what"}
    assert facta.doctor(frame) == facta.doctor(log) == facta.doctor(log.path)
    assert facta.doctor(frame.rename(names), columns=names, unit="ms") == facta.doctor(frame)
    twice = [finding for finding in facta.doctor(pl.concat([frame, frame.head(3)])) if finding.name == "duplicates"]
    assert [(finding.level, finding.count) for finding in twice] == [("warning", 3)]
    assert all(isinstance(finding, facta.Finding) for finding in twice)
    with pytest.raises(facta.DataError, match=r"no file 'nowhere\.csv'"):
        facta.doctor("nowhere.csv")


def test_a_dataset_with_other_items_is_refused(artifact: Path, tmp_path: Path) -> None:
    other = facta.prepare(worlds.cycle(items=10), tmp_path / "other")
    with pytest.raises(facta.DataError, match="other items"):
        facta.evaluate(artifact, other)


def test_another_log_of_the_same_items_is_asked_only_when_allowed(
    log: facta.Dataset, artifact: Path, tmp_path: Path
) -> None:
    longer = pl.concat([worlds.checkerboard(), worlds.checkerboard().tail(1)])
    other = facta.prepare(longer, tmp_path / "other")
    with pytest.raises(facta.ProtocolError, match=r"may have seen the targets here.* other_data=True"):
        facta.evaluate(artifact, other)
    assert facta.evaluate(artifact, other, other_data=True).dataset == other.content_hash != log.content_hash


def test_what_there_is_says_what_it_is(log: facta.Dataset, artifact: Path) -> None:
    assert re.fullmatch(r"Artifact\(debug/hstu, \d+ items, fingerprint [0-9a-f]{16}\)", repr(facta.load(artifact)))
    assert re.fullmatch(
        r"Result\(loo-val/\S+, test, \d+ users: HR@10 1\.0000, NDCG@10 1\.0000, MRR 1\.0000\)",
        repr(facta.evaluate(artifact, log)),
    )


@pytest.mark.parametrize(
    ("system", "changes", "without"),
    [
        ("hstu", [], ["encoder.bias=position"]),
        ("hstu", ["encoder.bias=time", "embedding.gaps=true"], ["encoder.bias=none", "embedding.gaps=false"]),
        ("sasrec", ["embedding.gaps=true"], ["embedding.gaps=false"]),
        (
            "hstu",
            ['encoder={"kind": "hstu-production"}', "width=16", "layout=fused", "embedding.calendar=true"],
            ["embedding.calendar=false"],
        ),
    ],
)
def test_data_without_times_is_refused_by_a_recipe_that_reads_time(
    tmp_path: Path, system: str, changes: list[str], without: list[str]
) -> None:
    """And with the settings that the sentence names it is trained."""
    ordered = facta.prepare(worlds.checkerboard().drop("timestamp"), tmp_path / "ordered")
    settings = [*SHORT, *(f"model.{change}" for change in changes)]
    with pytest.raises(facta.ConfigError, match=r"or set (.*) \(--set\)\.") as refused:
        facta.train(ordered, f"debug/{system}", tmp_path / "a", settings, log=QUIET)
    named = re.findall(r"model\.(\S+=\S+)", str(refused.value))
    assert named == without
    settings += [f"model.{setting}" for setting in named]
    trained = facta.train(ordered, f"debug/{system}", tmp_path / "a", settings, overwrite=True, log=QUIET)
    assert trained.recommend(facta.history_of(ordered, 0)).source == ["model"]


def test_a_log_with_nothing_to_learn_from_is_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": [1, 1, 2, 2], "item_id": [1, 2, 3, 4], "timestamp": [1, 2, 3, 4]})
    short = facta.prepare(frame, tmp_path / "short", unit="s")
    with pytest.raises(facta.FactaError, match="two events to train on"):
        facta.train(short, "debug/popularity", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_any_list_length_may_decide_which_weights_are_kept(log: facta.Dataset, tmp_path: Path) -> None:
    facta.train(log, "debug/hstu", tmp_path / "a", [*SHORT, "training.metric=NDCG@3"], log=QUIET)
    lines = (facta.run_folder(tmp_path / "a") / "metrics.jsonl").read_text().splitlines()
    assert any("NDCG@3" in json.loads(line) for line in lines)


def test_a_wrong_metric_name_is_refused_before_it_costs_an_epoch(log: facta.Dataset, tmp_path: Path) -> None:
    with pytest.raises(facta.ConfigError, match=r"training\.metric"):
        facta.train(log, "debug/hstu", tmp_path / "a", ["training.metric=NDGC@10"], log=QUIET)
