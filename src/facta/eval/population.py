"""Sentences on the population of a result, for tables and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from facta.errors import counted


def population(asked: Mapping[str, int], stage: str) -> str:
    """The users and events of the numbers, and the targets that no model could learn; empty if not counted."""
    if not asked:
        return ""
    users, events = asked["held_out_users"], asked["held_out_events"]
    if "asked_users" in asked:
        said = (
            f"{asked['asked_users']:,} of {counted(users, 'user')} with {stage} events, "
            f"{asked['asked_events']:,} of {events:,} such events"
        )
        said += "." if asked["asked_events"] == events else "; the others have no visible event before."
    else:
        said = f"all {counted(events, f'{stage} event')} of {counted(users, 'user')}"
        said += f", {asked['users_without_history']:,} of them without an earlier event."
    for key, what in (
        ("untrained_targets", "are of items without training events"),
        ("unknown_targets", "are of items that the artifact does not know, and count as misses"),
    ):
        if asked.get(key):
            said += f" {asked[key]:,} events ({asked[key] / max(asked.get('asked_events', events), 1):.1%}) {what}."
    return said


def context_told(name: str, fields: Sequence[str]) -> str:
    """The context that requests give beside the history; empty if none."""
    if not fields:
        return ""
    return f"Each request tells {name} the context of the held-out event: {', '.join(fields)}."
