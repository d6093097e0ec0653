"""The interface of a model for training, evaluation, artifacts and requests.

A new kind of model is a config and the module that it builds, in one file, and a line in `models/known.py` (not needed
for models from outside). The defaults here are those of a model without the ability.

Letters: S targets of a batch, V catalogue items, P width of a query.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from facta.config import Config
from facta.data.batches.negatives import NegativesConfig
from facta.data.batches.spec import InputSpec
from facta.data.dataset.catalogue import Catalogue
from facta.data.split.statistics import Statistics
from facta.errors import ConfigError
from facta.kinds import kind_of
from facta.similarity.similarity import Similarity
from facta.types import CatalogueScores, Cost, LossSum, Negatives, SequenceBatch

Task = Literal["next_item", "feedback"]
Judge = Callable[[Iterable["Model"]], "Model"]
"""Fitted models -> the one with the highest NDCG@10 on validation."""


class ModelConfig(Config):
    """The base of every model's config, with the properties that a recipe needs before there is a dataset."""

    trained: ClassVar[bool] = True
    """Whether the model is trained step by step; other models are counted once."""

    @property
    @abstractmethod
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that the model learns."""

    @abstractmethod
    def build(self, catalogue: Catalogue, seed: int = 0) -> Model:
        """The untrained model for a catalogue, a function of (config, catalogue, seed)."""

    @property
    def min_training_events(self) -> int:
        """The training events that at least one user needs: a next item is predicted from earlier events."""
        return 2

    @property
    def settings_without_time(self) -> list[str]:
        """Changes of settings that make the model independent of time, as in ["encoder.bias=none"]."""
        return []

    @property
    def uses_time(self) -> bool:
        """Whether requests need a time."""
        return bool(self.settings_without_time)

    @property
    def of_any_fields(self) -> Self:
        """The config without names of fields, for a log with other fields."""
        return self

    def tuned(self, statistics: Statistics, judge: Judge) -> Model:
        """The model with the best settings on validation, counted on the training events. Raises ConfigError."""
        raise ConfigError(f"A model of kind '{kind_of(self)}' has nothing to choose: set choose to false.")


class Model(nn.Module):
    """A model of the next item, of feedback, or of both; single-device mathematics.

    `window`: the most events of a history that it reads. `fitted_on_validation`: names of state tensors that are fitted
    to validation events after training; a second training on all events before the test, which has no validation, takes
    them over.
    """

    config: ModelConfig
    window: int
    fitted_on_validation: tuple[str, ...] = ()
    tokens_per_event: int = 1
    prior: nn.Module | None  # added to its scores of the catalogue after training

    def __init__(self) -> None:
        super().__init__()
        self.prior = None  # not a class attribute, which would hide the module assigned later

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that it has learned."""
        return self.config.tasks

    @property
    def inputs(self) -> InputSpec:
        """The inputs that its batches need."""
        return InputSpec()

    @property
    def window_of_requests(self) -> int:
        """The most events of a history in a request; one less if candidates are tokens among the events."""
        return self.window - (1 if self.predicted else 0)

    @property
    def remembers(self) -> bool:
        """Whether keys and values (or states) of a history may be cached for the next request
        (`encoders/memory.py`)."""
        return False

    @property
    def predicted(self) -> list[str]:
        """Feedback fields that it scores."""
        return []

    @property
    def successes(self) -> list[str]:
        """Predicted feedback fields with success."""
        return []

    @property
    def negatives(self) -> NegativesConfig | None:
        """The negatives that the losses need in each step; None: none."""
        return None

    @property
    def counts_training(self) -> bool:
        """Whether it counts the whole training period before training, which would leak the future into a stream."""
        return False

    @property
    def settings_without_counts(self) -> list[str]:
        """Changes of settings that make the model work without counts, as in ["embedding.rates=null"]."""
        return []

    @property
    def factored(self) -> bool:
        """Whether scores of the catalogue are just products of `queries` and `item_vectors`."""
        return self.scoring is not None and self.scoring.factored

    @property
    def scoring(self) -> Similarity | None:
        """The similarity that scores the catalogue from `queries` and `item_vectors` alone; None: scores need more."""
        return None

    def fit_statistics(self, statistics: Statistics) -> Self:
        """Store statistics of the training events; a counted model is fitted by this alone."""
        return self

    def forward(self, batch: SequenceBatch, negatives: Negatives | None) -> dict[str, LossSum]:
        """Objective -> (Σ weight · loss, Σ weight) over the batch; weights do not depend on the parameters."""
        raise ConfigError(f"A model of kind '{kind_of(self.config)}' is counted, not trained: it has no loss.")

    def loss_weights(self, batch: SequenceBatch, negatives: Negatives | None) -> dict[str, Tensor]:
        """Objective -> Σ weight as in `forward`. Models that compute it from the batch alone save a forward pass where
        a step has several batches.
        """
        with torch.no_grad():
            return {name: loss.weight for name, loss in self(batch, negatives).items()}

    def scores(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Feedback field -> [S]: each target's probability of success, or its expected value."""
        raise ConfigError("This model predicts no feedback; train one whose recipe sets model.feedback.")

    def catalogue_scores(self, batch: SequenceBatch) -> CatalogueScores:
        """One row of scores over the catalogue for each target; higher is better."""
        raise ConfigError("This model predicts feedback alone and recommends nothing; rank candidates with it.")

    def queries(self, batch: SequenceBatch) -> Tensor:
        """[S, P] queries, for models with a `scoring`."""
        raise ConfigError(f"A model of kind '{kind_of(self.config)}' has no vectors of queries and items.")

    def item_vectors(self, rows: Tensor | None = None) -> Tensor:
        """[V, P] item vectors (or [U, P] of the given rows) for an index, for models with a `scoring`."""
        raise ConfigError(f"A model of kind '{kind_of(self.config)}' has no vectors of queries and items.")

    @property
    def similar_by(self) -> str:
        """The kind of item similarity, for display; empty: the model compares no items."""
        return "cosine of the item vectors" if self.factored else ""

    @property
    def knows_new_items(self) -> bool:
        """Whether the vectors of items without training events are meaningful, as those of features are."""
        return False

    @torch.no_grad()
    def item_similarities(self, rows: Tensor) -> Tensor:
        """[n] rows -> [n, V] similarities of all items to each of them; -inf: none known."""
        if not self.similar_by:
            raise ConfigError(
                "This artifact compares no items: its model has neither item vectors nor counts of pairs of items. "
                "Take one that has, such as hstu, sasrec, item-knn, rules or ease."
            )
        every = functional.normalize(self.item_vectors(), dim=1)
        return every[rows] @ every.T

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`table`: parameters with a row for every item or code; `head`: the objectives; `backbone`: the rest."""
        return {"backbone": list(self.parameters())}

    def cost(self, tokens: int) -> Cost:
        """The cost of a history of `tokens` tokens, `tokens_per_event` for each event."""
        raise ConfigError(f"A model of kind '{kind_of(self.config)}' does not state its cost.")

    def parameter_counts(self) -> dict[str, int]:
        """Numbers of parameters by group; of a counted model, the counted numbers."""
        if self.config.trained:
            return {name: sum(p.numel() for p in group) for name, group in self.parameter_groups().items()}
        state: Mapping[str, Tensor] = self.state_dict()
        return {"counted": sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point())}
