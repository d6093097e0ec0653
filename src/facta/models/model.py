"""What a model is to everything above it: to training, evaluation, artifacts and requests.

A new kind of model is a config that builds it and a module, both in one file, and a word in `models/known.py` (or, from
outside, no word at all). What a model does not do it leaves as it stands here.

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
    """The base of every model's config: all that a recipe must know before there is a dataset."""

    trained: ClassVar[bool] = True
    """Whether a model has parameters that are learned step by step; others are counted once."""

    @property
    @abstractmethod
    def tasks(self) -> tuple[Task, ...]:
        """What the model learns."""

    @abstractmethod
    def build(self, catalogue: Catalogue, seed: int = 0) -> Model:
        """The model for a catalogue, neither trained nor counted yet: a function of (config, catalogue, seed)."""

    @property
    def min_training_events(self) -> int:
        """Training events that somebody must have: an item is told by the events before it."""
        return 2

    @property
    def settings_without_time(self) -> list[str]:
        """Of the settings by which it reads time: what they would be without it, as in ["encoder.bias=none"]."""
        return []

    @property
    def uses_time(self) -> bool:
        """Whether a request must say when it is made."""
        return bool(self.settings_without_time)

    @property
    def of_any_fields(self) -> Self:
        """The same of whatever fields a log has, where it names some."""
        return self

    def tuned(self, statistics: Statistics, judge: Judge) -> Model:
        """The best of its settings on validation, counted on the training events. Raises ConfigError."""
        raise ConfigError(f"A model of kind '{kind_of(self)}' has nothing to choose: set choose to false.")


class Model(nn.Module):
    """A model of the next item, of feedback, or of both; single-device mathematics.

    `window`: the newest events of a history that it is shown. `fitted_on_validation` names the tensors of its state
    that are fitted to validation events when training is over: they are carried into a second training on all events
    before the test, which has no validation.
    """

    config: ModelConfig
    window: int
    fitted_on_validation: tuple[str, ...] = ()
    tokens_per_event: int = 1
    prior: nn.Module | None  # added to its scores of the catalogue when training is over

    def __init__(self) -> None:
        super().__init__()
        self.prior = None  # not a class attribute: it would hide the module that is put in its place

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it has learned."""
        return self.config.tasks

    @property
    def inputs(self) -> InputSpec:
        """What its batches have to hold."""
        return InputSpec()

    @property
    def window_of_requests(self) -> int:
        """The newest events of a history that a request shows: where candidates stand among the events, one less."""
        return self.window - (1 if self.predicted else 0)

    @property
    def remembers(self) -> bool:
        """Whether what is computed of a history may be kept for the next request (`encoders/memory.py`)."""
        return False

    @property
    def predicted(self) -> list[str]:
        """Feedback fields that it scores."""
        return []

    @property
    def successes(self) -> list[str]:
        """Feedback fields of which it predicts success."""
        return []

    @property
    def negatives(self) -> NegativesConfig | None:
        """What the losses want drawn for each step; None: nothing."""
        return None

    @property
    def counts_training(self) -> bool:
        """Whether it counts the whole training period before it learns, so that a stream would meet its own answers."""
        return False

    @property
    def settings_without_counts(self) -> list[str]:
        """Of these settings: what they would be without it, as in ["embedding.rates=null"]."""
        return []

    @property
    def factored(self) -> bool:
        """Whether scores of the catalogue are products of `queries` and `item_vectors`, and no more."""
        return self.scoring is not None and self.scoring.factored

    @property
    def scoring(self) -> Similarity | None:
        """What makes scores of the catalogue of `queries` and `item_vectors`, where that is all; None: more is done."""
        return None

    def fit_statistics(self, statistics: Statistics) -> Self:
        """Take what it reads of the training events beside its batches; a counted model is fitted by this alone."""
        return self

    def forward(self, batch: SequenceBatch, negatives: Negatives | None) -> dict[str, LossSum]:
        """Objective -> (Σ weight · loss, Σ weight) over the batch; the weight does not depend on the parameters."""
        raise ConfigError(f"A model of kind '{kind_of(self.config)}' is counted, not trained: it has no loss.")

    def loss_weights(self, batch: SequenceBatch, negatives: Negatives | None) -> dict[str, Tensor]:
        """Objective -> Σ weight as `forward` gives it, known before the losses. A model that can tell it from the batch
        alone saves a forward pass where several batches make one step.
        """
        with torch.no_grad():
            return {name: loss.weight for name, loss in self(batch, negatives).items()}

    def scores(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Feedback field -> [S]: how probable success is for every target, or the value to be expected."""
        raise ConfigError("This model predicts no feedback; train one whose recipe sets model.feedback.")

    def catalogue_scores(self, batch: SequenceBatch) -> CatalogueScores:
        """One row of scores over the catalogue for each target; higher is better."""
        raise ConfigError("This model predicts feedback alone and recommends nothing; rank candidates with it.")

    def queries(self, batch: SequenceBatch) -> Tensor:
        """[S, P] of a model with a `scoring`."""
        raise ConfigError(f"A model of kind '{kind_of(self.config)}' has no vectors of queries and items.")

    def item_vectors(self, rows: Tensor | None = None) -> Tensor:
        """[V, P] (or of the given rows [U, P]) of a model with a `scoring`: what an index stores."""
        raise ConfigError(f"A model of kind '{kind_of(self.config)}' has no vectors of queries and items.")

    @property
    def similar_by(self) -> str:
        """What makes two items similar, as people are told; empty: it compares no items."""
        return "cosine of the item vectors" if self.factored else ""

    @property
    def knows_new_items(self) -> bool:
        """Whether the vector of an item without training events says something: it is made of features."""
        return False

    @torch.no_grad()
    def item_similarities(self, rows: Tensor) -> Tensor:
        """[n] rows -> [n, V] how similar every item is to each of them; -inf: nothing says that it is."""
        if not self.similar_by:
            raise ConfigError(
                "This artifact compares no items: its model has neither item vectors whose products are its scores nor "
                "counts of pairs of items. Ask one that has, such as hstu, sasrec, item-knn, rules or ease."
            )
        every = functional.normalize(self.item_vectors(), dim=1)
        return every[rows] @ every.T

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`table`: what has a row for every item or code; `head`: the objectives; `backbone`: all else."""
        return {"backbone": list(self.parameters())}

    def cost(self, tokens: int) -> Cost:
        """For a history of `tokens` tokens, `tokens_per_event` for each event."""
        raise ConfigError(f"A model of kind '{kind_of(self.config)}' does not say what it costs.")

    def parameter_counts(self) -> dict[str, int]:
        """Numbers that were learned, by group; of a counted model all that was counted."""
        if self.config.trained:
            return {name: sum(p.numel() for p in group) for name, group in self.parameter_groups().items()}
        state: Mapping[str, Tensor] = self.state_dict()
        return {"counted": sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point())}
