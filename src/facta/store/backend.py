"""What databases differ in: how connections are made, who may write, how a query is given a list, what errors mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, Subquery
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as NoConnection

from facta.errors import StoreError


class Backend(ABC):
    """A database. `place` names it in sentences, without a password."""

    def __init__(self, engine: Engine, place: str) -> None:
        self.engine = engine
        self.place = place

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is alone in writing, over all processes; committed at the end. Raises StoreError."""
        with self._saying_why("written"), self.engine.connect() as db, db.execution_options(**self.writes).begin():
            self.lock(db)
            yield db

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one moment. Raises StoreError."""
        with self._saying_why("read"), self.engine.connect() as db, db.execution_options(**self.reads).begin():
            yield db

    writes: dict[str, object] = {}
    reads: dict[str, object] = {}

    @abstractmethod
    def lock(self, db: Connection) -> None:
        """Wait until nobody else writes."""

    @abstractmethod
    def pairs(self) -> Subquery:
        """A table with columns `first` and `second` of the parameter `pairs`, a JSON list of pairs of a text and a
        whole number, or of a whole number and a text: one statement serves any number of them."""

    @abstractmethod
    def vacuum(self) -> None:
        """Rewrite the files, without what was deleted. Raises StoreError."""

    def sweep(self) -> None:
        """Called after a commit that deleted a user; what can be wiped out at once is. Raises nothing."""
        return

    @abstractmethod
    def why(self, error: DBAPIError) -> str:
        """What is wrong and what to do, as the end of a sentence."""

    @contextmanager
    def _saying_why(self, what: str) -> Iterator[None]:
        try:
            yield
        except (DataError, IntegrityError, ProgrammingError):  # a mistake of this program, not of the store
            raise
        except DBAPIError as error:
            raise StoreError(f"The event store '{self.place}' cannot be {what}: {self.why(error)}.") from error
        except NoConnection as error:
            raise StoreError(
                f"The event store '{self.place}' cannot be {what}: all connections are in use; try again."
            ) from error
