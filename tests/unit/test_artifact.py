"""The artifact: what is saved is what is loaded, and nothing damaged is ever loaded."""

import json
import re
import resource
from pathlib import Path

import polars as pl
import pytest
import torch

from facta import durable
from facta.artifact import files
from facta.artifact.contents import ArtifactData
from facta.artifact.model import parse, state_of
from facta.data.dataset.catalogue import Catalogue
from facta.errors import ArtifactError, ResourceError
from facta.models.recommender import RecommenderConfig

CONFIG = {"kind": "recommender", "window": 8, "width": 8, "encoder": {"kind": "hstu", "layers": 1, "bias": "position"}}


def contents(seed: int = 0) -> ArtifactData:
    model = parse(CONFIG).build(Catalogue(6), seed)
    assert isinstance(model.config, RecommenderConfig)
    catalogue = pl.DataFrame(
        {"row": range(6), "item_id": list("abcdeé"), "title": list("ABCDEF"), "training_events": [3, 1, 0, 2, 1, 1]}
    )
    config = {"name": "test/tiny", "model": model.config.model_dump(mode="json")}
    schema = {"events": 8, "users": 2, "content_hash": "00ff", "order": "user, timestamp, input row"}
    metrics = [
        {
            "protocol": "loo-val/…",
            "stage": "test",
            "users": 2,
            "metrics": {"NDCG@10": {"mean": 0.5, "low": 0.25, "high": 0.75}},
        }
    ]
    return ArtifactData(config, schema, catalogue, model, metrics)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    files.save(contents(), tmp_path / "artifact")
    return tmp_path / "artifact"


def test_what_is_saved_is_what_is_loaded(saved: Path) -> None:
    before, after = contents(), files.load(saved)
    assert after.config == before.config and after.schema == before.schema and after.metrics == before.metrics
    assert after.catalogue.equals(before.catalogue)
    assert all(
        torch.equal(a, b) for a, b in zip(state_of(before.model).values(), state_of(after.model).values(), strict=True)
    )
    assert not after.model.training


def test_the_fingerprint_names_the_content(saved: Path, tmp_path: Path) -> None:
    assert files.load(saved).fingerprint == files.check(saved) == files.save(contents(), tmp_path / "same")
    assert files.save(contents(seed=1), tmp_path / "other") != files.check(saved)


def test_it_holds_json_parquet_and_safetensors_and_a_card(saved: Path) -> None:
    assert {file.name for file in saved.iterdir()} == {*files.FILES, files.CHECKSUMS}
    card = (saved / "README.md").read_text(encoding="utf-8")
    assert "`loo-val/…`" in card and "0.5000" in card and "6 items, 5 of them" in card
    assert "A recommender of kind" in card and "History(items=[...], times=[...])\n" in card and "candidate" not in card


@pytest.mark.parametrize("name", files.FILES)
def test_an_altered_file_is_refused_by_name(saved: Path, name: str) -> None:
    data = bytearray((saved / name).read_bytes())
    data[len(data) // 2] ^= 1
    (saved / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=f"{re.escape(name)}.*checksum is wrong"):
        files.load(saved)


@pytest.mark.parametrize("name", files.FILES)
def test_a_missing_or_torn_file_is_refused_by_name(saved: Path, name: str) -> None:
    data = (saved / name).read_bytes()
    (saved / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ArtifactError, match=re.escape(name)):
        files.load(saved)
    (saved / name).unlink()
    with pytest.raises(ArtifactError, match=f"lacks {re.escape(name)}"):
        files.load(saved)


def test_a_newer_format_is_refused(saved: Path) -> None:
    sums = json.loads((saved / files.CHECKSUMS).read_text())
    (saved / files.CHECKSUMS).write_text(json.dumps({**sums, "format": 99, "facta": "9.0"}))
    with pytest.raises(ArtifactError, match=r"format 99, written by facta 9\.0; .* update facta"):
        files.load(saved)


@pytest.mark.parametrize("found", [0, -1, True, "1", 1.0, None])
def test_a_format_that_never_was_is_refused(saved: Path, found: object) -> None:
    sums = json.loads((saved / files.CHECKSUMS).read_text())
    (saved / files.CHECKSUMS).write_text(json.dumps({**sums, "format": found}))
    with pytest.raises(ArtifactError, match=f"{files.CHECKSUMS}' is damaged: it states no format"):
        files.load(saved)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 1}', '{"format": "1", "files": {}}', '{"format": 1, "files": 3}']
)
def test_a_damaged_checksum_file_is_refused(saved: Path, text: str) -> None:
    (saved / files.CHECKSUMS).write_text(text)
    with pytest.raises(ArtifactError, match=files.CHECKSUMS):
        files.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"witdh": 8}, "Unknown key 'witdh' for RecommenderConfig; valid keys: .*width"),
        ({"kind": "oracle"}, "oracle"),
        ({"width": 16}, "tensors .* do not fit"),
        ({"encoder": {"kind": "gru"}}, "tensors .* do not fit"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_although_its_checksum_is_right(
    saved: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["model"].update(change)
    (saved / "config.json").write_text(json.dumps(config))
    sums = json.loads((saved / files.CHECKSUMS).read_text())
    sums["files"]["config.json"] = durable.sha256(saved / "config.json")
    (saved / files.CHECKSUMS).write_text(json.dumps(sums))
    with pytest.raises(ArtifactError, match=message):
        files.load(saved)


def test_a_wrong_place_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no artifact"):
        files.load(tmp_path / "nothing")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="prepared dataset: pass it as --data"):
        files.load(tmp_path)


def test_nothing_is_replaced_unasked_and_only_an_artifact_when_asked(saved: Path, tmp_path: Path) -> None:
    old = files.check(saved)
    with pytest.raises(ArtifactError, match="exists already"):
        files.save(contents(seed=1), saved)
    assert files.check(saved) == old
    assert files.save(contents(seed=1), saved, overwrite=True) == files.check(saved) != old
    (tmp_path / "precious").mkdir()
    with pytest.raises(ArtifactError, match="no artifact"):
        files.save(contents(), tmp_path / "precious", overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["artifact", "precious"]


@pytest.mark.parametrize("room", [100, 700, 1500])  # of a file: for a JSON file, the catalogue, the tensors
def test_a_full_disk_leaves_nothing_half_written(saved: Path, tmp_path: Path, room: int) -> None:
    old = files.check(saved)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))  # a write beyond it fails, as on a full disk
    try:
        for place in (saved, tmp_path / "new"):
            with pytest.raises(ResourceError, match=r"Cannot write .* \(.*File too large"):
                files.save(contents(seed=1), place, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files.check(saved) == old
    assert [file.name for file in tmp_path.iterdir()] == ["artifact"]


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResourceError, match="Cannot write"):
        files.save(contents(), tmp_path / "file" / "artifact")
