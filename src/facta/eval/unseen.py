"""Which evaluations of a trained model are honest: those whose targets its training has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facta.errors import ProtocolError
from facta.eval.protocol import ProtocolConfig, Stage


def check_unseen(own: ProtocolConfig, asked: ProtocolConfig, stage: Stage) -> None:
    """A model may be evaluated only on events that its own protocol held out; it may have learned the rest.

    The `refit` of both protocols must agree, too. Raises ProtocolError.
    """
    if own.held_out != asked.held_out:
        raise ProtocolError(
            f"The artifact was trained under {own.id} and may have seen the targets of the {stage} stage of "
            f"{asked.id}: "
            "train it under that protocol (--set protocol.split=…; loo-paper needs training.patience=null)."
        )
    if own.refit == "yes" and stage == "validation":
        raise ProtocolError(
            "The artifact was trained again on the validation events (refit=yes), so it cannot be evaluated on them. "
            "Its "
            "metrics.json has the validation of the first training; else train with protocol.refit=no."
        )
    if own.refit != asked.refit:
        raise ProtocolError(
            f"The artifact was trained with refit={own.refit} and is asked under {asked.id}: one model saw the "
            f"validation events and the other did not. Train it with protocol.refit={asked.refit}."
        )


def unlike_targets(model: Mapping[str, Any], asked: ProtocolConfig) -> str | None:
    """A warning if a model that was trained on some targets is evaluated on others; None otherwise.

    `model`: the config of the model as plain values.
    """
    learned = (model.get("next_item") or model).get("positive")
    if learned is None or learned == asked.targets:
        return None
    what = "all events" if asked.targets == "all" else f"events with {asked.targets}"
    return (
        f"It has learned from events with {learned} and is asked for {what}: the protocol of the same question has "
        f"targets={learned}."
    )
