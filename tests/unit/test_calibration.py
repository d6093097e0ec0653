"""Calibrators: as defined, fitted on validation alone, kept in the artifact, and applied wherever scores are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import facta
from facta.artifact.calibration import Calibrator, fit_calibrator, logit
from facta.errors import ArtifactError, ConfigError
from facta.eval.feedback_metrics import losses, prediction_metrics

N = 4000


@pytest.fixture
def twisted() -> tuple[np.ndarray, np.ndarray]:
    """Overconfident predictions, with ties, of events whose probability is known."""
    rng = np.random.default_rng(0)
    truth = rng.random(N)
    said = 1 / (1 + np.exp(-(2.0 * logit(truth) + 1.0)))
    return np.round(said, 3), rng.random(N) < truth


def test_platt_undoes_a_shift_and_a_stretch(twisted: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = twisted
    found = fit_calibrator("platt", p.clip(0.001, 0.999), y)
    assert found is not None
    assert found.x[0] == pytest.approx(0.5, abs=0.05) and found.y[0] == pytest.approx(-0.5, abs=0.1)
    best = losses(found(p.clip(0.001, 0.999)), y).sum()  # no other straight line is better
    for a, b in ((0.02, 0), (-0.02, 0), (0, 0.05), (0, -0.05)):
        other = Calibrator("platt", (found.x[0] + a,), (found.y[0] + b,))
        assert losses(other(p.clip(0.001, 0.999)), y).sum() > best


def slow_isotonic(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """max over i ≤ k of min over j ≥ k of the share of successes among scores i … j (Robertson et al. 1988)."""
    scores = np.unique(p)
    hits = np.array([y[p == one].sum() for one in scores], dtype=float)
    size = np.array([(p == one).sum() for one in scores], dtype=float)
    every = range(len(scores))
    share = [[hits[i : j + 1].sum() / size[i : j + 1].sum() if j >= i else 0.0 for j in every] for i in every]
    fit = [max(min(share[i][j] for j in range(k, len(scores))) for i in range(k + 1)) for k in range(len(scores))]
    return np.array(fit)[np.searchsorted(scores, p)]


def test_isotonic_is_the_best_ascending_function() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        p = np.round(rng.random(40), 2)
        y = rng.random(40) < p
        found = fit_calibrator("isotonic", p, y)
        assert found is not None
        np.testing.assert_allclose(found(p), slow_isotonic(p, y), atol=1e-12)
        assert (np.diff(found(np.linspace(0, 1, 101))) >= 0).all()


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_a_calibrator_lowers_the_loss_and_keeps_the_order(kind: str, twisted: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = twisted
    found = fit_calibrator(kind, p[::2], y[::2])  # type: ignore[arg-type]
    assert found is not None and Calibrator.from_json(found.to_json()) == found
    user = np.zeros(N // 2, dtype=int)
    raw, after = (prediction_metrics(q, y[1::2], user) for q in (p[1::2], found(p[1::2])))
    assert after["NE"] < raw["NE"] - 0.05 and after["ECE"] < raw["ECE"] / 2
    assert after["Calibration"] == pytest.approx(1, abs=0.05) and after["AUC"] == pytest.approx(raw["AUC"], abs=0.01)
    assert fit_calibrator(kind, p, np.ones(N, dtype=bool)) is None  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> facta.Dataset:
    """Clicks whose share halves for the last fifth of the log: a model trained before promises too much."""
    rng = np.random.default_rng(1)
    users, length = 80, 30
    item, place = rng.integers(0, 10, users * length), np.tile(np.arange(length), users)
    click = rng.random(users * length) < np.where(place < 24, 0.8, 0.3)
    table = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(users), length),
            "item_id": item,
            "timestamp": 1_700_000_000_000 + place * 3_600_000,
            "click": click.astype(int),
            "like": (click & (rng.random(users * length) < 0.5)).astype(int),
        }
    )
    fields = {"click": {}, "like": {"undefined": "click = 0"}}
    return facta.prepare(table, tmp_path_factory.mktemp("calibration") / "log", fields=fields)


SMALL = [
    *("training.epochs=1", "training.keep=last", "training.patience=null", "model.width=8", "model.window=8"),
    *("protocol.train_end=80%", "protocol.validation_end=90%", "calibration=platt"),
]


def test_an_artifact_keeps_its_calibrators_and_says_both(log: facta.Dataset, tmp_path: Path) -> None:
    trained = facta.train(log, "own-log/dlrm", tmp_path / "a", SMALL)
    artifact = facta.load(tmp_path / "a")
    assert artifact.calibration == trained.calibration and set(artifact.calibration) == {"click", "like"}
    assert [(one["stage"], one["calibrator"]) for one in artifact.metrics] == [
        ("validation", "platt"), ("validation", None), ("test", "platt"), ("test", None),
    ]  # fmt: skip
    found, raw = (facta.predict(artifact, log, calibrated=flag) for flag in (True, False))
    validated = facta.predict(artifact, log, stage="validation", calibrated=False)
    for field, name in (("click", "click"), ("like", "like if click")):
        expected = fit_calibrator("platt", *validated.of(name)[:2])  # of the validation events and nothing else
        assert artifact.calibration[field] == expected and expected is not None
        np.testing.assert_allclose(found.p[name], expected(raw.p[name]))
    assert found.means["Calibration(click)"] < raw.means["Calibration(click)"] - 0.3
    assert "alarms" in found.summary() and any("click: NE" in text for text in raw.summary()["alarms"])


def test_a_refit_keeps_the_calibrators_of_the_first_model(log: facta.Dataset, tmp_path: Path) -> None:
    """The second model has learned the validation events, so what it says of them is no measure."""
    once = facta.train(log, "own-log/dlrm", tmp_path / "once", SMALL)
    again = facta.train(log, "own-log/dlrm", tmp_path / "again", [*SMALL, "protocol.refit=yes"])
    assert again.calibration == once.calibration and set(again.calibration) == {"click", "like"}
    tests = [one["calibrator"] for one in again.metrics if one["stage"] == "test"]
    assert tests == ["platt", None]


def test_ranking_goes_through_the_calibrators(log: facta.Dataset, tmp_path: Path) -> None:
    artifact = facta.train(log, "own-log/dlrm", tmp_path / "a", SMALL)
    plain = facta.Artifact(**vars(artifact) | {"calibration": {}})
    history = facta.history_of(log, 3)
    ours, theirs = (one.rank(history, list(range(10)), at="2030-01-01") for one in (artifact, plain))
    for field, name in (("click", "click"), ("like", "like if click")):
        raw = dict(zip(theirs.ids[0], theirs.scores[name][0], strict=True))
        expected = artifact.calibration[field](np.array([raw[id_] for id_ in ours.ids[0]]))
        np.testing.assert_allclose(ours.scores[name][0], expected, rtol=1e-5)
    products = np.array(ours.scores["click"][0]) * np.array(ours.scores["like if click"][0])
    np.testing.assert_allclose(ours.scores["like"][0], products, rtol=1e-5)


def test_calibrators_that_were_touched_are_refused(log: facta.Dataset, tmp_path: Path) -> None:
    facta.train(log, "own-log/dlrm", tmp_path / "a", SMALL)
    file = tmp_path / "a" / "calibration.json"
    whole = file.read_text()
    file.write_text(whole.replace("platt", "isoto"))
    with pytest.raises(ArtifactError, match=r"calibration\.json .*was altered"):
        facta.load(tmp_path / "a")
    file.unlink()
    with pytest.raises(ArtifactError, match=r"lacks calibration\.json"):
        facta.load(tmp_path / "a")
    facta.train(log, "own-log/dlrm", tmp_path / "b", [*SMALL, "calibration=null"])
    (tmp_path / "b" / "calibration.json").write_text(whole)
    with pytest.raises(ArtifactError, match="is damaged"):
        facta.load(tmp_path / "b")


def test_what_has_no_probabilities_is_not_calibrated(log: facta.Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="predicts no feedback, and only probabilities"):
        facta.train(log, "movielens-1m/popularity", tmp_path / "a", ["calibration=platt"])
    with pytest.raises(ConfigError, match="is fitted on validation"):
        cuts = [*SMALL[:-3], "protocol.train_end=80%", "protocol.validation_end=80%", "calibration=platt"]
        facta.train(log, "own-log/dlrm", tmp_path / "a", cuts)
