"""What the classical rankers have in common: each impression is scored by itself, from columns of the same batches.

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
    """A model of feedback that recommends nothing from the catalogue.

    `window`: rows hold twice the events that a target sees, so that every target of a long history's row
    (`overlapping_windows`) has all of its own.
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
        """What its batches have to hold."""
        fields, users = (tuple(field.name for field in of) for of in (self.events, self.users))
        return InputSpec(fields, users, self.lists, series=bool(self.changing), own=True)

    def told(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Name -> [S] codes of all that is known of each target: context, facts of its user, and those in force."""
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
