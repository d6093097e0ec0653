"""The artifact: a trained model as a self-describing directory.

    config.json         the whole recipe; its `model` is enough to rebuild the model
    model.safetensors   its tensors
    items.parquet       the catalogue: row, item_id, training_events, and features such as title
    schema.json         the dataset that it was trained on: fields, counts, order, content hash
    metrics.json        metrics, each with its protocol id
    README.md           the model card
    calibration.json    only if scores are calibrated: a calibrator for each feedback field
    checksums.json      format, writer and the SHA-256 of each file above; their hash is the artifact's fingerprint

JSON, Parquet and safetensors only: loading runs no code from the directory and needs no dataset.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from facta import durable
from facta.artifact import card
from facta.artifact.calibration import Calibrator
from facta.artifact.contents import ArtifactData
from facta.artifact.model import parse, restored, state_of
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Fields, shown_early
from facta.data.dataset.parquet import read_parquet
from facta.errors import ArtifactError, ConfigError

FORMAT = 2
CHECKSUMS = "checksums.json"
CALIBRATION = "calibration.json"
FILES = ("README.md", "config.json", "items.parquet", "metrics.json", "model.safetensors", "schema.json")


def save(contents: ArtifactData, path: Path | str, *, overwrite: bool = False) -> str:
    """Write the directory beside `path` and rename it; returns the fingerprint.

    Raises ArtifactError if `path` exists already (`overwrite` replaces an artifact, and nothing else) and ResourceError
    if it cannot be written.
    """
    path = Path(path)
    check_overwrite(path, overwrite=overwrite)
    with durable.directory(path, replace=overwrite) as draft:
        _write(contents, draft)
        names = (*FILES, CALIBRATION) if contents.calibration else FILES
        sums = {name: durable.sha256(draft / name) for name in names}
        written = FORMAT if contents.calibration else 1  # a reader of format 1 would ignore the calibrators
        _write_json(draft / CHECKSUMS, {"format": written, "facta": card.version(), "files": sums})
    return fingerprint(sums)


def check_overwrite(path: Path, *, overwrite: bool) -> None:
    """Raises ArtifactError unless `path` is free, or an artifact that may be replaced."""
    replaceable = (path / CHECKSUMS).is_file()
    if path.exists() and not (overwrite and replaceable):
        found = "exists already and " + ("holds a finished artifact" if replaceable else "is no artifact")
        hint = ", or replace it with overwrite=True (--overwrite)" if replaceable else ""
        raise ArtifactError(f"'{path}' {found}; choose another place{hint}.")


def _write(contents: ArtifactData, draft: Path) -> None:
    _write_json(draft / "config.json", contents.config)
    _write_json(draft / "schema.json", contents.schema)
    _write_json(draft / "metrics.json", list(contents.metrics))
    if contents.calibration:
        _write_json(draft / CALIBRATION, {name: one.to_json() for name, one in contents.calibration.items()})
    (draft / "README.md").write_text(card.text(contents), encoding="utf-8")
    durable.save_table(draft / "items.parquet", contents.catalogue)
    durable.save_tensors(draft / "model.safetensors", state_of(contents.model))
    mode = (draft / "config.json").stat().st_mode
    (draft / "model.safetensors").chmod(mode)  # safetensors makes the file readable only for its owner


def load(path: Path | str) -> ArtifactData:
    """Read a directory written by `save`, with all checksums verified. Raises ArtifactError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    mark = check(path)
    config = _read_json(path / "config.json")
    schema, catalogue = _read_json(path / "schema.json"), _read(path / "items.parquet", read_parquet)
    if early := shown_early(described(schema)):
        raise ArtifactError(
            f"The artifact '{path}' was trained by an older facta, which showed models '{early}' before it was known; "
            "prepare the log again and train again."
        )
    try:
        of_items = Catalogue.described(catalogue, described(schema))
        model = restored(parse(config["model"]), of_items, load_file(path / "model.safetensors"))
    except (ConfigError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"The config of the artifact '{path}' does not describe a model of this facta: {error}"
        ) from error
    except (SafetensorError, RuntimeError) as error:
        raise ArtifactError(f"The tensors of '{path}' do not fit the model of its config: {error}") from error
    found = _read_json(path / CALIBRATION) if (path / CALIBRATION).is_file() else {}
    calibration = {name: Calibrator.from_json(values) for name, values in found.items()}
    metrics = _read_json(path / "metrics.json")
    return ArtifactData(config, schema, catalogue, model, metrics, fingerprint=mark, calibration=calibration)


def described(schema: Mapping[str, Any]) -> Fields:
    """The fields of a schema of plain values."""
    return Fields.parse({name: schema[name] for name in Fields.model_fields if name in schema})


def check(path: Path | str) -> str:
    """Verify that all files exist, unaltered and of this format; returns the fingerprint. Raises ArtifactError."""
    path = Path(path)
    if not path.is_dir():
        raise ArtifactError(f"Found no artifact at '{path}'; expected the directory that `facta train --out` wrote.")
    if not (path / CHECKSUMS).is_file():
        prepared = " It is a prepared dataset: pass it as --data." if (path / "manifest.json").is_file() else ""
        raise ArtifactError(f"'{path}' is no artifact: it has no {CHECKSUMS}.{prepared}")
    written = _read_json(path / CHECKSUMS)
    _check_format(path, written)
    sums = written.get("files")
    names = (*FILES, CALIBRATION) if isinstance(sums, dict) and CALIBRATION in sums else FILES
    stray = (path / CALIBRATION).exists() and CALIBRATION not in names
    if not isinstance(sums, dict) or set(sums) != set(names) or stray:
        raise ArtifactError(
            f"'{path / CHECKSUMS}' is damaged: expected the checksums of {', '.join(names)}. Copy it again."
        )
    for name in names:
        if not (path / name).is_file():
            raise ArtifactError(f"The artifact '{path}' lacks {name}: copy it again, whole, or train it again.")
        if durable.sha256(path / name) != sums[name]:
            raise ArtifactError(
                f"The file {name} of the artifact '{path}' was altered or torn (its checksum is wrong): "
                "copy it again, or train it again."
            )
    return fingerprint(sums)


def fingerprint(sums: Mapping[str, str]) -> str:
    """16 hex digits of the hash of the file checksums."""
    return hashlib.sha256(json.dumps(dict(sums), sort_keys=True).encode()).hexdigest()[:16]


def _check_format(path: Path, written: Any) -> None:
    found = written.get("format") if isinstance(written, dict) else None
    if type(found) is not int or found < 1:  # a truth value is an int too
        raise ArtifactError(f"'{path / CHECKSUMS}' is damaged: it states no format. Copy the artifact again.")
    if found > FORMAT:
        raise ArtifactError(
            f"The artifact '{path}' has format {found}, written by facta {written.get('facta')}; "
            f"this facta {card.version()} reads format {FORMAT}: update facta."
        )


def _write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    return _read(path, lambda file: json.loads(file.read_text(encoding="utf-8")))


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    try:
        return reader(path)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(f"The file '{path}' cannot be read ({error}): copy the artifact again.") from error
