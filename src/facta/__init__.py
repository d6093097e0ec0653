"""facta: generative recommenders from event logs.

dataset = facta.prepare("events.csv", "data/shop")
artifact = facta.train(dataset, "movielens-1m/hstu", "artifacts/shop")
artifact.recommend(facta.history_of(dataset, 17), k=10, at="2030-01-01")

`import facta` imports only the errors: the first use of a name imports its module, and torch with it. So a process that
only stores events (`facta.store`) never imports torch.
"""

from facta.errors import interrupted_in_a_sentence as _interrupted_in_a_sentence  # isort: skip

_interrupted_in_a_sentence()  # before torch is imported, which takes seconds

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from facta.errors import (
    ArtifactError,
    BusyError,
    ConfigError,
    ConflictError,
    DataError,
    DownloadError,
    FactaError,
    ProtocolError,
    ResourceError,
    StoreError,
    TrainingError,
    UnknownEventError,
    UnknownValueWarning,
)

if TYPE_CHECKING:  # for editors and type checkers; `_HOMES` has the same names for Python
    from pathlib import Path

    from facta import configs as configs
    from facta.api import by_day, doctor, evaluate, find_recipe, predict, run_folder, train, train_seeds, tune
    from facta.data.dataset.dataset import Dataset
    from facta.data.dataset.schema import FeatureConfig, FieldConfig
    from facta.data.log.doctor import Finding
    from facta.data.log.prepare import prepare
    from facta.eval.comparison import Comparison, compare
    from facta.eval.predictions import Predictions
    from facta.eval.protocol import ProtocolConfig
    from facta.eval.result import Result
    from facta.eval.seeds import AveragedPredictions, average
    from facta.infer.artifact import Answer, Artifact
    from facta.infer.engine import Engine
    from facta.infer.history import History
    from facta.infer.history_of import histories_of, history_of
    from facta.infer.ranking import Ranking
    from facta.infer.similar import SimilarItems
    from facta.recipes.recipe import RecipeConfig

    __version__: str

    def load(path: Path | str) -> Artifact:
        """`Artifact.load`."""
        ...


_HOMES = {
    "facta.api": "by_day doctor evaluate find_recipe predict run_folder train train_seeds tune",
    "facta.data.dataset.dataset": "Dataset",
    "facta.data.dataset.schema": "FeatureConfig FieldConfig",
    "facta.data.log.doctor": "Finding",
    "facta.data.log.prepare": "prepare",
    "facta.eval.comparison": "Comparison compare",
    "facta.eval.predictions": "Predictions",
    "facta.eval.protocol": "ProtocolConfig",
    "facta.eval.result": "Result",
    "facta.eval.seeds": "AveragedPredictions average",
    "facta.infer.artifact": "Answer Artifact",
    "facta.infer.engine": "Engine",
    "facta.infer.history": "History",
    "facta.infer.history_of": "histories_of history_of",
    "facta.infer.ranking": "Ranking",
    "facta.infer.similar": "SimilarItems",
    "facta.recipes.recipe": "RecipeConfig",
}
"""Module -> its public names."""

__all__ = [
    "Answer",
    "Artifact",
    "ArtifactError",
    "AveragedPredictions",
    "BusyError",
    "Comparison",
    "ConfigError",
    "ConflictError",
    "DataError",
    "Dataset",
    "DownloadError",
    "Engine",
    "FactaError",
    "FeatureConfig",
    "FieldConfig",
    "Finding",
    "History",
    "Predictions",
    "ProtocolConfig",
    "ProtocolError",
    "Ranking",
    "RecipeConfig",
    "ResourceError",
    "Result",
    "SimilarItems",
    "StoreError",
    "TrainingError",
    "UnknownEventError",
    "UnknownValueWarning",
    "average",
    "by_day",
    "compare",
    "doctor",
    "evaluate",
    "find_recipe",
    "histories_of",
    "history_of",
    "load",
    "predict",
    "prepare",
    "run_folder",
    "train",
    "train_seeds",
    "tune",
]


def _public(name: str) -> Any:
    """The object of a public name; other names may be modules. Raises AttributeError."""
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(_import_module(home), name)
    if name == "load":
        return _public("Artifact").load
    if name == "__version__":
        return _import_module("importlib.metadata").version("facta")
    try:
        return _import_module(f"facta.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"facta.{name}":
            raise
    raise AttributeError(f"module 'facta' has no attribute '{name}'")


if not TYPE_CHECKING:  # type checkers would accept every misspelt name

    def __getattr__(name: str) -> Any:
        if name.startswith("__") and name != "__version__":  # Python asks for these on every module
            raise AttributeError(f"module 'facta' has no attribute '{name}'")
        found = globals()[name] = _public(name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__", "configs"})
