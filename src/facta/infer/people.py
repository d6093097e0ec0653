"""The people of a store in the rows and codes of artifacts, resident: a new event costs its own coding alone.

Letters: B users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from facta.data.batches.encoded import EncodedHistory
from facta.infer.cache import OBJECTS, Cache
from facta.infer.coding import Coding
from facta.store.protocol import Change, EventStore, Person, StoredEvent, UserId

SWEPT_USERS = 500  # in one look-up of the store


@dataclass
class Resident:
    """What is known of a person as of a revision of the store, once for each coding."""

    revision: int
    histories: list[EncodedHistory]

    @property
    def nbytes(self) -> int:
        return sum(one.nbytes + OBJECTS for one in self.histories)


class People:
    """Histories of users, brought up to date with the store before each answer."""

    def __init__(self, store: EventStore, codings: Sequence[Coding], residents: Cache[UserId, Resident]) -> None:
        self.store, self.codings, self.residents = store, list(codings), residents

    def of(self, users: Sequence[UserId]) -> dict[UserId, list[EncodedHistory]]:
        """User -> histories, one for each coding; one look-up in the store for all. They grow with later calls: copy
        what has to stay."""
        known = {user: self.residents.get(user) for user in dict.fromkeys(users)}
        changes = self.store.changes({user: 0 if one is None else one.revision for user, one in known.items()})
        return {user: self._current(user, one, changes.get(user)).histories for user, one in known.items()}

    def forget(self, user: UserId) -> None:
        """Let go of what is coded of a user."""
        self.residents.drop(user)

    def sweep(self) -> None:
        """Let go of everybody of whom the store knows nothing any more."""
        held = [(user, one.revision) for user, one in self.residents.items()]
        for start in range(0, len(held), SWEPT_USERS):
            changes = self.store.changes(dict(held[start : start + SWEPT_USERS]))
            for user, change in changes.items():
                if not change.revision:
                    self.residents.drop(user)

    def _current(self, user: UserId, resident: Resident | None, change: Change | None) -> Resident:
        if change is None:
            return resident or Resident(0, self.coded(Person()))
        if resident is None or change.whole is not None:
            resident = Resident(change.revision, self.coded(change.whole or Person()))
        self._append(resident, change.appended)
        resident.revision = change.revision
        self.residents.put(user, resident, resident.nbytes)
        return resident

    def coded(self, person: Person) -> list[EncodedHistory]:
        """The histories of a person, one for each coding."""
        return [coding.history(person) for coding in self.codings]

    def _append(self, resident: Resident, events: Sequence[StoredEvent]) -> None:
        if not events:
            return
        for coding, history in zip(self.codings, resident.histories, strict=True):
            history.append(coding.events(events))
