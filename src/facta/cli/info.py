"""`facta info`: describe this installation, an artifact, a dataset or a recipe."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from facta import hardware
from facta.artifact import files
from facta.cli import console, tables
from facta.data.dataset.dataset import Dataset
from facta.errors import ConfigError
from facta.infer.artifact import Artifact
from facta.kinds import plain
from facta.ops import backend
from facta.recipes.find import every, find, summary
from facta.recipes.keys import Key, keys

PACKAGES = ("facta", "torch", "numpy", "polars", "pyarrow", "pydantic", "safetensors", "typer", "rich")


def info(
    what: Annotated[
        str | None,
        typer.Argument(help="An artifact, a prepared dataset or a recipe (default: this installation)."),
    ] = None,
    recipes: Annotated[bool, typer.Option("--recipes", help="List all recipes.")] = False,
    all_keys: Annotated[
        bool, typer.Option("--keys", help="Every setting of a recipe: value, default, allowed values, meaning.")
    ] = False,
    as_json: console.JsonFlag = False,
) -> None:
    """Describe versions and hardware, an artifact, a dataset or a recipe."""
    if all_keys:
        _keys(what, as_json=as_json)
        return
    if recipes:
        _recipes(as_json=as_json)
        return
    values: Mapping[str, Any]
    if what is None:
        values = _machine()
    elif (Path(what) / files.CHECKSUMS).exists():
        values = _artifact(Path(what))
    elif (Path(what) / "manifest.json").exists():
        values = Dataset.open(what).manifest.model_dump(mode="json")
    elif what in every() or _is_recipe_file(Path(what)):
        values = find(what).model_dump(mode="json")
    else:
        raise ConfigError(f"'{what}' is no artifact, no prepared dataset and no recipe (`facta info --recipes`).")
    if as_json:
        console.emit(values)
    else:
        _show(values)


def _recipes(*, as_json: bool) -> None:
    found = {name: summary(build) for name, build in every().items()}
    if as_json:
        console.emit({"recipes": list(found), "summaries": found})
        return
    console.table("facta train NAME --data DATASET --out ARTIFACT", ["name", "what it is"], [*map(list, found.items())])


def _is_recipe_file(path: Path) -> bool:
    return path.suffix == ".json" and path.is_file()


def _keys(what: str | None, *, as_json: bool) -> None:
    if what is None:
        raise ConfigError(
            "Found --keys without a recipe, whose settings it lists: name one, as in facta info movielens-1m/hstu "
            "--keys."
        )
    found = list(keys(find(what)))
    if as_json:
        console.emit([one._asdict() for one in found])
        return
    rows = [
        [
            one.key,
            _said(one.value),
            _said(one.default) if one.default != one.value else "",
            _expects(one),
            one.description,
        ]
        for one in found
    ]
    console.table(f"{what}: settings for --set KEY=VALUE", ["key", "value", "default", "expects", "meaning"], rows)


def _expects(key: Key) -> str:
    return key.allowed if key.allowed[:1].isalpha() else f"{key.type} {key.allowed}".strip()


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _machine() -> dict[str, Any]:
    free = hardware.memory_free()
    return {
        "versions": {name: installed(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": hardware.threads(),
        "backend": backend.why(),
        "memory_free": None if free is None else hardware.human(free),
        "disk_free_here": hardware.human(hardware.disk_free(".")),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _artifact(path: Path) -> dict[str, Any]:
    artifact = Artifact.load(path)
    return {
        "name": artifact.config["name"],
        "fingerprint": artifact.fingerprint,
        "model": plain(artifact.model.config),
        "training": artifact.config["training"],
        "protocol": artifact.config["protocol"],
        "items": artifact.catalogue.height,
        "items_with_training_events": int((artifact.catalogue["training_events"] > 0).sum()),
        "reads_time": artifact.reads_time,
        "cost": _cost(artifact),
        "dataset": {name: artifact.schema[name] for name in ("users", "items", "events", "content_hash")},
        "results": list(artifact.metrics),
    }


def _cost(artifact: Artifact) -> dict[str, Any]:
    """The model's cost for a history that fills its window, with this machine's backend."""
    model = artifact.model
    if not model.config.trained:
        return {"numbers": sum(model.parameter_counts().values())}
    tokens = model.tokens_per_event
    cost = model.cost(tokens * model.window)
    return {
        "parameters": sum(cost.parameters.values()),
        "parameters_by_group": dict(cost.parameters),
        "item_table_bytes": cost.table_bytes,
        "flops_per_event": round(tokens * cost.flops_per_token),
        "flops_per_target_in_training": round(cost.flops_per_target),
        "activation_bytes_per_event": round(tokens * cost.activation_bytes_per_token),
        "activations_kept_by": backend.current(),
        "cache_bytes_per_event": round(tokens * cost.cache_bytes_per_token),
    }


def _show(values: Mapping[str, Any]) -> None:
    results = values.get("results", [])
    rows = _rows({name: value for name, value in values.items() if name != "results"})
    console.table("", ["", ""], rows)
    for result in results:
        tables.shown([(values["name"], result)])


def _rows(values: Mapping[str, Any], prefix: str = "") -> list[list[object]]:
    """Nested values as dotted names."""
    rows: list[list[object]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += _rows(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)) and value and not isinstance(value[0], (int, float)):
            rows += [[f"{prefix}{name}" if place == 0 else "", str(entry)] for place, entry in enumerate(value)]
        else:
            number = isinstance(value, int) and not isinstance(value, bool)
            rows.append([f"{prefix}{name}", f"{value:,}" if number else value])
    return rows
