"""Predictions of held-out events by a model of feedback.

Letters: S events, U users, V items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facta.arrays import AnyInts, Floats, Ints
from facta.data.batches.rows import Rows
from facta.data.batches.spec import InputSpec
from facta.data.batches.training import prediction_batches
from facta.data.dataset.conditional import score_names
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.schema import Field
from facta.data.split.known import known_events
from facta.data.split.late import known_codes, period_moments
from facta.data.split.splits import Split
from facta.errors import ProtocolError
from facta.eval.evaluation import eval_mode
from facta.eval.experiment import Experiment
from facta.eval.fitting import Fitting
from facta.eval.held_out import HeldOut
from facta.eval.predictions import Predictions
from facta.eval.protocol import ProtocolConfig, Stage, check_order
from facta.types import SequenceBatch, to_device


class Predictor(Protocol):
    """The interface of a model of feedback for evaluation."""

    window: int

    @property
    def inputs(self) -> InputSpec: ...

    def scores(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Field -> [S]: probability of success."""
        ...


def predict(
    model: Predictor,
    experiment: Experiment,
    *,
    stage: Stage = "test",
    counts: Ints | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """A model's predictions of every held-out event, given its time, context and item and the visible events.

    Labels are those known at the end of the stage: for validation, at the moment of the test. `counts` [V]: training
    events of each item of the model's catalogue. If the dataset has more items (rows from V on), their events are left
    out of histories, and as targets they get the mean of the other predictions. Raises ProtocolError if the protocol is
    undefined for this dataset or holds out no event.
    """
    dataset, protocol = experiment.dataset, experiment.protocol
    _check_defined(dataset, protocol)
    asked = experiment.held_out(stage)
    if not len(asked):
        raise ProtocolError(
            f"The protocol {protocol.feedback_id} holds no {stage} event out of this dataset{protocol.advice(dataset)}"
        )
    items = dataset.num_items if counts is None else len(counts)
    seen, known = dataset, asked
    if items < dataset.num_items:
        seen, known = known_events(dataset, items), asked.of_items(dataset, items)
    said = _for_all(dataset, asked, items, _scores(model, seen, known.rows(seen, model.window), progress))
    until = _known_until(dataset, experiment.split) if stage == "validation" else None
    found = _predictions(dataset, protocol.feedback_id, stage, asked.places, said, until)
    return replace(found, asked=_population(dataset, asked, counts))


def predict_validation(model: Predictor, fitting: Fitting) -> Predictions:
    """`predict` for the validation events: the only predictions for fitting."""
    dataset, protocol = fitting.dataset, fitting.protocol
    _check_defined(dataset, protocol)
    rows, until = fitting.held_out.rows(dataset, model.window), _known_until(dataset, fitting.split)
    return predict_rows(model, dataset, rows, protocol.feedback_id, "validation", known_until=until)


def _known_until(dataset: Dataset, split: Split) -> Ints | None:
    """[U] ms: the end of validation, if some feedback is late."""
    return period_moments(dataset, list(dataset.fields), split.validation_end, split.validation_cut)


def _check_defined(dataset: Dataset, protocol: ProtocolConfig) -> None:
    check_order(dataset)
    if protocol.ties == "blind":
        raise ProtocolError(
            "Found protocol.ties=blind for predicted feedback, which has ties in order: set it to in-order."
        )
    if protocol.split != "temporal" and protocol.targets != "all":
        raise ProtocolError(
            f"Under {protocol.split} with targets={protocol.targets} the held-out events begin with a success, so "
            "predicting their feedback is meaningless: use a temporal protocol, or targets=all."
        )


def _for_all(dataset: Dataset, asked: HeldOut, items: int, said: Mapping[str, Floats]) -> dict[str, Floats]:
    """Field -> predictions of the events of known items -> of all events; unknown items get the mean."""
    known = _items(dataset, asked) < items
    found = {name: np.full(len(known), p.mean() if len(p) else 0.5) for name, p in said.items()}
    for name, p in said.items():
        found[name][known] = p
    return found


def _population(dataset: Dataset, asked: HeldOut, counts: Ints | None) -> dict[str, int]:
    """Numbers of held-out users and events, and of events of items that no model could learn."""
    found = {
        "held_out_users": len(asked.user),
        "held_out_events": len(asked),
        "users_without_history": int((asked.first == 0).sum()),
    }
    if counts is not None:
        item = _items(dataset, asked)
        known = item < len(counts)
        found["unknown_targets"] = int((~known).sum())
        found["untrained_targets"] = int((counts[item[known]] == 0).sum())
    return found


def _items(dataset: Dataset, asked: HeldOut) -> AnyInts:
    """[S] items of the held-out events."""
    user, place = asked.places
    items: AnyInts = dataset.item[dataset.offsets[user] + place]
    return items


def predict_rows(
    model: Predictor,
    dataset: Dataset,
    rows: Rows,
    protocol: str,
    stage: str,
    *,
    known_until: Ints | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """A model's predictions of the targets of rows; `protocol` and `stage` name them.

    `known_until` [U] ms: labels are the feedback known then; None: at the end of the log.
    """
    count = rows.last - rows.first
    user = np.repeat(rows.user, count)
    place = np.repeat(rows.last - np.cumsum(count), count) + np.arange(int(count.sum()))
    found = _scores(model, dataset, rows, progress)
    return _predictions(dataset, protocol, stage, (user, place), found, known_until)


def _scores(
    model: Predictor, dataset: Dataset, rows: Rows, progress: Callable[[int, int], None] | None = None
) -> dict[str, Floats]:
    """Field -> [S] a model's scores of the targets of rows, in their order."""
    counts = rows.last - rows.first
    ends = np.cumsum(counts)
    found: dict[str, Floats] = {}
    done = 0
    with eval_mode(model) as device:
        for part, batch in prediction_batches(dataset, rows, window=model.window, spec=model.inputs):
            scores = to_device(model.scores(to_device(batch, device)), "cpu")
            at = np.concatenate([np.arange(ends[row] - counts[row], ends[row]) for row in part])
            for field, score in scores.items():
                found.setdefault(field, np.empty(int(ends[-1])))[at] = score.double().numpy()
            done += len(at)
            if progress is not None:
                progress(done, int(ends[-1]))
    return found


def _predictions(
    dataset: Dataset,
    protocol: str,
    stage: str,
    asked: tuple[Ints, Ints],
    found: Mapping[str, Floats],
    known_until: Ints | None,
) -> Predictions:
    """Scores with the labels of the events at (users [S], places [S]), by the names of scores
    (`data/dataset/conditional.py`).
    """
    user, place = asked
    event = dataset.offsets[user] + place
    moment = None if known_until is None else known_until[user]
    fields = [field for field in dataset.manifest.fields if field.positives]
    labels = {field.name: _labels(dataset, field, event, moment) for field in fields}
    measured = [field for field in dataset.manifest.fields if _measured(field)]
    numbers = {field.name: _numbers(dataset, field, event, moment) for field in measured}
    known, names = [field for field in found if field in labels], score_names(dataset.manifest.fields)
    valued = [field for field in found if field in numbers]
    return Predictions(
        protocol=protocol,
        stage=stage,
        dataset=dataset.content_hash,
        user=user,
        place=place,
        time=None if dataset.timestamp is None else np.asarray(dataset.timestamp[event], dtype=np.int64),
        p={names[field]: found[field] for field in known},
        y={names[field]: labels[field] for field in known},
        expected={names[field]: found[field] for field in valued},
        observed={names[field]: numbers[field] for field in valued},
    )


def _labels(dataset: Dataset, field: Field, event: Ints, moment: Ints | None) -> NDArray[np.int8]:
    code = known_codes(dataset, field.name, event, moment)
    return np.where(code == 0, -1, np.isin(code, field.positives)).astype(np.int8)


def _measured(field: Field) -> bool:
    """Whether a field is numeric without success."""
    return field.role == "feedback" and field.kind in ("numeric", "ordinal") and not field.positives


def _numbers(dataset: Dataset, field: Field, event: Ints, moment: Ints | None) -> Floats:
    """[S] logged values, as known at `moment`; NaN: undefined."""
    code, logged = (known_codes(dataset, field.name, event, until) for until in (moment, None))
    values = np.asarray(dataset.fields[field.name][event]).astype(np.float64)
    before = np.nan if field.before is None else float(field.before)
    return np.where(code == 0, np.nan, np.where(code == logged, values, before))
