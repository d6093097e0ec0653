"""facta: generative recommenders from event logs.

dataset = facta.prepare("events.csv", "data/shop")
artifact = facta.train(dataset, "movielens-1m/hstu", "artifacts/shop")
artifact.recommend(facta.history_of(dataset, 17), k=10, at="2030-01-01")
"""

from facta.errors import interrupted_in_a_sentence as _interrupted_in_a_sentence  # isort: skip

_interrupted_in_a_sentence()  # before torch is imported, which takes seconds

from facta import configs as configs
from facta.api import by_day, doctor, evaluate, find_recipe, predict, run_folder, train, train_seeds, tune
from facta.artifact.card import version as _version
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.schema import FeatureConfig, FieldConfig
from facta.data.log.doctor import Finding
from facta.data.log.prepare import prepare
from facta.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    DownloadError,
    FactaError,
    ProtocolError,
    ResourceError,
    TrainingError,
    UnknownValueWarning,
)
from facta.eval.comparison import Comparison, compare
from facta.eval.predictions import Predictions
from facta.eval.protocol import ProtocolConfig
from facta.eval.result import Result
from facta.eval.seeds import AveragedPredictions, average
from facta.infer.artifact import Answer, Artifact
from facta.infer.history import History
from facta.infer.history_of import histories_of, history_of
from facta.infer.ranking import Ranking
from facta.infer.similar import SimilarItems
from facta.recipes.recipe import RecipeConfig

__version__ = _version()

load = Artifact.load

__all__ = [
    "Answer",
    "Artifact",
    "ArtifactError",
    "AveragedPredictions",
    "Comparison",
    "ConfigError",
    "DataError",
    "Dataset",
    "DownloadError",
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
    "TrainingError",
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
