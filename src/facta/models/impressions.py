"""The common part of classical rankers, which score each impression by itself from the columns of a batch.

Letters: S targets, K feedback fields.
"""

from __future__ import annotations

from typing import Self

from torch import Tensor

from facta import jagged
from facta.data.batches.spec import InputSpec
from facta.data.dataset.catalogue import Catalogue
from facta.data.split.statistics import Statistics
from facta.layers.rates import SmoothedRates
from facta.layers.recent import in_force
from facta.models.model import Model
from facta.types import SequenceBatch


class ImpressionModel(Model):
    """A model of feedback that does not score the catalogue.

    `window` is twice the number of events that a target sees, so that all targets of a long row (`overlapping_windows`)
    have all their events.
    """

    rates: SmoothedRates | None

    def __init__(self, catalogue: Catalogue, sees: int) -> None:
        super().__init__()
        self.window = 2 * sees
        self.users = tuple(field for field in catalogue.users if field.kind != "items")
        self.lists = tuple(field.name for field in catalogue.users if field.kind == "items")
        self.events = catalogue.fields
        self.context = tuple(field for field in catalogue.fields if field.role == "context")
        self.changing = tuple(field.name for field in catalogue.series)
        self.known = [*self.context, *self.users, *catalogue.series]  # of a target, beside its item

    @property
    def inputs(self) -> InputSpec:
        """The inputs that its batches need."""
        fields, users = (tuple(field.name for field in of) for of in (self.events, self.users))
        return InputSpec(fields, users, self.lists, series=bool(self.changing), targets_are_inputs=True)

    def target_codes(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Name -> [S] codes of each target's context, its user's facts, and changing facts in force."""
        row = jagged.rows(batch.targets.offsets)
        facts = {name: values[row] for name, values in batch.user.items()}
        return facts | in_force(batch, self.changing) | dict(batch.targets.events.fields)

    def fit_statistics(self, statistics: Statistics) -> Self:
        """Counts of feedback."""
        if self.rates is not None:
            self.rates.fit_statistics(statistics)
        return self

    @property
    def counts_training(self) -> bool:
        return self.rates is not None
