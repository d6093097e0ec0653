"""A process that posts to an event store and is killed in the middle, and what must be found in the store afterwards.

python -m tests.event_store_kills URL ROUND    post without end; a line "THREAD NUMBER" is an acknowledgement
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from facta.store.opening import open_store
from facta.store.protocol import StoredEvent, UserId

THREADS = 4
USERS: tuple[UserId, ...] = ("shared", 1, 2, 3)


class Acknowledged(NamedTuple):
    round: int
    thread: int
    number: int


def posts_of(place: Acknowledged) -> list[tuple[UserId, StoredEvent]]:
    """The events of one append: of two users (thread 0: of one), which come together or not at all."""
    name = ".".join(map(str, place))
    one = StoredEvent(name, place.number, 1000 * place.number + place.thread, {"n": name})
    return [(user, one) for user in dict.fromkeys((USERS[0], USERS[place.thread]))]


def post(url: str, round_: int) -> None:
    """Append from several threads, and say of each append that it was acknowledged."""
    store = open_store(url)

    def run(thread: int) -> None:
        for number in range(1_000_000):
            store.append(posts_of(Acknowledged(round_, thread, number)))
            sys.stdout.write(f"{thread} {number}\n")
            sys.stdout.flush()

    threads = [Thread(target=run, args=(thread,)) for thread in range(THREADS)]
    for one in threads:
        one.start()


def killed(url: str, round_: int, seconds: float) -> list[Acknowledged]:
    """Start a process that posts, kill it so many seconds after its first acknowledgement, and return what it has
    acknowledged."""
    words = [sys.executable, "-m", "tests.event_store_kills", url, str(round_)]
    root = Path(__file__).parents[1]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        lines = [first, *process.stdout.read().split("\n")[:-1]]  # the last line may be cut
    return [Acknowledged(round_, *map(int, line.split())) for line in lines if line.strip()]


def check(url: str, acknowledged: Iterable[Acknowledged]) -> int:
    """Assert that what was acknowledged is there, whole and once; returns how many events are."""
    store = open_store(url)
    people = dict(store.people())
    store.close()
    found: dict[UserId, set[str]] = {}
    for user, person in people.items():
        names = [event.id for event in person.events]
        found[user] = set(names)
        assert len(found[user]) == len(names) == person.revision, "an event is there twice"
        assert all(event.values == {"n": event.id} for event in person.events)
    for place in acknowledged:
        for user, event in posts_of(place):
            assert event.id in found[user], f"{event.id} of user {user} was acknowledged and is lost"
    for name in set().union(*found.values()):
        place = Acknowledged(*map(int, name.split(".")))
        assert all(event.id in found.get(user, ()) for user, event in posts_of(place)), f"half of {name} is there"
    return sum(map(len, found.values()))


if __name__ == "__main__":
    post(sys.argv[1], int(sys.argv[2]))
