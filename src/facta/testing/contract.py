"""The contract of every model; each check is a function of a case and its model.

time < context < item < feedback < time of the next event. A prediction of a fact depends only on earlier facts, in a
row as in a request, and not on the rest of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from facta.data.split.visibility import BLIND, Delayed, Visibility
from facta.encoders.memory import Memory, RowMemory
from facta.errors import ConfigError
from facta.layouts.layout import ORDER
from facta.models.model import Model
from facta.models.recommender import Recommender
from facta.testing.batches import DAY, Row, aside, asked_alone, batch, catalogue, hiding, joined, request, seeing
from facta.testing.case import CACHE_TOLERANCE, EVENTS, OTHER, SAME, Case, predicted, rows
from facta.types import Negatives, SequenceBatch


def depends(case: Case, what: str, target: int, fact: str, event: int, row: Row) -> bool:
    """Whether the prediction of fact `what` of event `target` may depend on `fact` of `event`."""
    shown = {one for token in case.layout.shows for one in token} if case.layout else set(ORDER)
    if case.hides:
        if fact in ("user", "earlier", "series"):
            return case.users if fact != "series" else case.series
        own = event == target and fact == "context" and case.gives_context
        return own or (event not in case.places(row) and fact in shown)
    if fact in ("user", "earlier"):
        return case.users and (case.history or fact == "user")
    if fact == "series":
        field, _, _, after = row.series[event]
        newer = any(one[0] == field and one[3] <= target for one in row.series[event + 1 :])  # in force at its place
        return case.series and after <= target and not (newer and case.layout is None)
    if (event, _place(fact)) >= (target, _place(what)):
        return False  # not known yet
    if (what, event) == ("item", target) and fact == "context":  # no state, no query
        return case.gives_context and (target > 0 or case.users)
    if fact != "time":
        read = event < target or what == "feedback"
        return read and fact in shown and (case.history or event == target)
    own = what == "feedback" and case.layout is not None and case.layout.tokens_before("feedback") > 0
    newest = target if own else target - 1  # event with a fact in a token
    looks_back = case.looks_back and target > 0 and (case.history or event == target)
    return looks_back or (case.gaps and 0 < newest >= event)


def _place(fact: str) -> int:
    return [str(one) for one in ORDER].index(fact)


def check_order_of_facts(case: Case, model: Model) -> None:
    """A prediction depends only on earlier facts: one fact is changed at a time."""
    (row,) = rows(1)
    changes = [(str(fact), event) for fact in ORDER for event in range(EVENTS)]
    changes += [("user", 0), ("earlier", 0), ("earlier", 1)] * case.users
    changes += [("series", entry) for entry in range(len(row.series))] * case.series
    found = predicted(model, case.given([row, *(row.changed(*change) for change in changes)]))
    places = case.places(row)
    for what, values in found.items():
        base, *others = values.view(-1, len(places), *values.shape[1:])
        for (fact, event), other in zip(changes, others, strict=True):
            moved = (other - base).abs().amax(dim=1).tolist()
            for target, by in zip(places, moved, strict=True):
                said = f"{what} {target} and {fact} of {event}: moved by {by:.1e}"
                if not depends(case, what, target, fact, event, row):
                    assert by <= SAME, said
                elif case.sees_all:
                    assert by > OTHER, said


def check_cut_rows(case: Case, model: Model) -> None:
    """Cutting a row changes no earlier prediction: states are prefix-stable. For masked events later events are read,
    and a target among the inputs is refused.
    """
    (row,) = rows(2)
    if case.hides:
        _refused(model, batch([row], **case.parts), "a target among inputs that see it")
        return
    whole = predicted(model, batch([row], **case.parts))
    for events in range(1, EVENTS):
        for what, values in predicted(model, batch([row.cut(events)], **case.parts)).items():
            _close(values, whole[what][:events], SAME)


def check_aside(case: Case, model: Model) -> None:
    """A standalone target is predicted as it is inline: beside all inputs, and by a request alone. A model that cannot
    do it raises.
    """
    (row,), others = rows(3), rows(4, 2)
    if not case.aside:
        _refused(model, aside([(row, [2])], **case.parts), "a target aside")
        return
    inline = predicted(model, batch([row], **case.parts))
    beside = predicted(model, aside([(row, range(EVENTS))], **case.parts))
    for what, values in inline.items():
        _close(beside[what], values, SAME)
    for event in range(EVENTS):
        candidates = [_at(one, event, row.time[event]) for one in others]
        for what, values in predicted(model, request(row, event, candidates, **case.parts)).items():
            _close(values[0], inline[what][event], SAME)


def _refused(model: Model, given: SequenceBatch, what: str) -> None:
    try:
        predicted(model, given)
    except ConfigError:
        return
    raise AssertionError(f"{what} was neither predicted as it is alone nor refused")


def check_requests_of_hidden_events(case: Case, model: Model) -> None:
    """With masked events a request is the history and one masked event after it. Several in one row would see each
    other, so a model raises.
    """
    if not case.hides:
        return
    (row,), others = rows(3), rows(4, 2)
    for event in range(EVENTS):
        asked = predicted(model, request(row, event, (), **case.parts))
        for what, values in predicted(model, hiding([row.cut(event + 1)], [event], **case.parts)).items():
            _close(asked[what], values, SAME)
    _refused(model, request(row, 4, others, **case.parts), "several requests in one row")


def _at(row: Row, event: int, time: int) -> Row:
    """Another candidate at the same moment."""
    return replace(row, time=[*row.time[:event], time, *row.time[event + 1 :]])


def check_hidden_events(case: Case, model: Model) -> None:
    """Targets among the inputs that see less (blind to ties, or with a delay): each is predicted as in a row with only
    its visible events, and no hidden event changes that. A model that cannot do it raises.
    """
    row = _with_ties(rows(8)[0])
    for sees in (BLIND, Delayed(3 * DAY)):
        given = seeing(batch([row], **case.parts), sees)
        hidden = [range(int(after), event) for event, after in enumerate(given.targets.num_visible)]
        assert any(hidden), f"{sees} hides nothing of this row"
        if not case.aside:
            _refused(model, given, "a target that sees less than its event's token")
            continue
        found = predicted(model, given)
        alone = joined([asked_alone(row, event, sees, **case.parts) for event in range(EVENTS)])
        for what, values in predicted(model, alone).items():
            _close(found[what], values, SAME)
        _check_unmoved(case, model, sees, row, hidden, found)


def _check_unmoved(
    case: Case, model: Model, sees: Visibility, row: Row, hidden: Sequence[range], found: dict[str, Tensor]
) -> None:
    """One fact of one event is changed at a time; a hidden event of an earlier time may move up to the next event."""
    changes = [(str(fact), event) for fact in ORDER for event in range(EVENTS - 1)]
    changes = [one for one in changes if any(one[1] in each for each in hidden)]
    others = [
        replace(row, time=[*row.time[:at], row.time[at + 1], *row.time[at + 1 :]])
        if fact == "time"
        else row.changed(fact, at)
        for fact, at in changes
    ]
    for what, values in predicted(model, seeing(batch(others, **case.parts), sees)).items():
        for (_, at), other in zip(changes, values.view(-1, EVENTS, *values.shape[1:]), strict=True):
            blind = [event for event, each in enumerate(hidden) if at in each]
            _close(other[blind], found[what][blind], SAME)


def _with_ties(row: Row) -> Row:
    """Events 2 and 3 at one time, and 4, 5 and 6."""
    time = row.time
    return replace(row, time=[*time[:3], time[2], time[4], time[4], time[4]])


def check_batch_mates(case: Case, model: Model) -> None:
    """Predictions do not depend on batch mates or their order."""
    people = rows(5, 6, length=None)
    together = _split(case, predicted(model, case.given(people)), people)
    turned = _split(case, predicted(model, case.given(people[::-1])), people[::-1])[::-1]
    for place, row in enumerate(people):
        for what, alone in predicted(model, case.given([row])).items():
            _close(together[place][what], alone, SAME)
            _close(turned[place][what], alone, SAME)


def _split(case: Case, found: dict[str, Tensor], people: Sequence[Row]) -> list[dict[str, Tensor]]:
    lengths = [len(case.places(row)) for row in people]
    parts = {what: torch.split(values, lengths) for what, values in found.items()}
    return [{what: values[place] for what, values in parts.items()} for place in range(len(people))]


def check_halves(case: Case, model: Model) -> None:
    """Losses and gradients of two halves add up to the whole, with dropout, hidden ids and negatives: every draw is a
    function of its event or person, not of a place in a batch. `loss_weights` agrees with the losses.
    """
    people = rows(6, 5, length=None)
    model.train()
    (whole, gradient), (first, one), (second, other) = (
        _learned(case, model, some) for some in (people, people[:2], people[2:])
    )
    told = model.loss_weights(case.given(people), Negatives(each=3))
    model.eval()
    assert {what: weight.item() for what, weight in told.items()} == {what: pair[1] for what, pair in whole.items()}
    for what, (total, weight) in whole.items():
        added = first[what][0] + second[what][0]
        assert math.isclose(total, added, rel_tol=1e-10 if case.exact else 1e-6), f"{what}: {total} and {added}"
        assert weight == first[what][1] + second[what][1], what
    _close(gradient, one + other, 1e-10 if case.exact else 1e-6, relative=1e-8)


def _learned(case: Case, model: Model, people: Sequence[Row]) -> tuple[dict[str, tuple[float, float]], Tensor]:
    """Loss and weight by objective, and the gradient."""
    model.zero_grad()
    losses = model(case.given(people), Negatives(each=3))
    torch.stack([loss.total for loss in losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
    flat = torch.cat([p.grad.to_dense().flatten() for p in model.parameters() if p.grad is not None])
    return {what: (loss.total.double().item(), loss.weight.item()) for what, loss in losses.items()}, flat


def check_fast_path(case: Case, model: Model) -> None:
    """float32 with compiled kernels agrees with float64, for prefixes, series and standalone targets too."""
    (row,) = rows(7)
    given = aside([(row, range(EVENTS))], **case.parts) if case.aside else case.given([row])
    exact = predicted(model, given)
    try:
        for what, values in predicted(model.float(), given).items():
            _close(values.double(), exact[what], 1e-4, relative=1e-3)
    finally:
        model.double()


def check_memory(case: Case, model: Model) -> None:
    """A walk with a cache gives the predictions without one: appended events, an amended event, requests at other times
    with candidates, people at different places in a batch. `memory_error` returns the largest difference. Models that
    see later events refuse a cache.
    """
    if isinstance(model, Recommender) and case.hides:
        try:
            with torch.no_grad():
                model.encode(case.given(rows(9)), ("item",), Memory([None]))
        except ConfigError:
            return
        raise AssertionError("a memory was kept of states that depend on later events")
    if isinstance(model, Recommender) and model.encoder.remembers:
        found = memory_error(case, model)
        assert found <= CACHE_TOLERANCE, f"with a memory predictions differ by {found:.1e}"


def memory_error(case: Case, model: Recommender, seed: int = 9, steps: int = 12) -> float:
    """The largest difference between predictions with a memory and without, on a random walk."""
    rng, worst = np.random.default_rng(seed), 0.0
    people = rows(seed, 3)
    events, memory = np.ones(len(people), dtype=int), Memory([None] * len(people))
    for _ in range(steps):
        who = int(rng.integers(len(people)))
        events[who] = min(events[who] + int(rng.integers(0, 3)), EVENTS - 1)
        if rng.random() < 0.3:  # a fact of an earlier event becomes known or is corrected
            event = int(rng.integers(0, events[who]))
            people[who] = people[who].changed(str(rng.choice(["feedback", "item"])), event)
            memory.rows[who] = _before(model, memory.rows[who], people[who], event, case)
        worst = max(worst, _difference(case, model, memory, people, events.tolist()))
    return worst


def _before(model: Recommender, kept: RowMemory | None, row: Row, event: int, case: Case) -> RowMemory | None:
    """The part of a row's cache before an amended event."""
    if kept is None:
        return None
    return kept.cut(int(model.layout.closed(batch([row.cut(event + 1)], **case.parts))[0]))


def _difference(case: Case, model: Recommender, memory: Memory, people: Sequence[Row], events: Sequence[int]) -> float:
    """The largest difference over requests of all people in one batch, each at the next event."""
    asked = joined([request(row, event, [], **case.parts) for row, event in zip(people, events, strict=True)])
    pairs: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        if "feedback" in model.tasks and case.aside:
            said, again = model.scores(asked), model.scores(asked, memory)
            pairs += [(said[name], again[name]) for name in said]
        if "next_item" in model.tasks:
            pairs.append((model.queries(asked), model.queries(asked, memory)))
    return max((float((one - other).abs().max()) for one, other in pairs), default=0.0)


def check_same_again(case: Case, model: Model) -> None:
    """The same config, catalogue and seed build the same model, also via the config's plain values."""
    known = catalogue(users=case.users, series=case.series, described=True)
    one, other = case.config.build(known, 3), case.config.build(known, 3)
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), f"{name} is drawn anew each time: draw initial weights from torch's own generator"


CHECKS: tuple[Callable[[Case, Model], None], ...] = (
    check_order_of_facts,
    check_cut_rows,
    check_aside,
    check_hidden_events,
    check_requests_of_hidden_events,
    check_batch_mates,
    check_halves,
    check_fast_path,
    check_memory,
    check_same_again,
)


def check(case: Case) -> None:
    """All checks."""
    model = case.build().eval()
    for one in CHECKS:
        one(case, model)


def _close(found: Tensor, expected: Tensor, absolute: float, relative: float | None = None) -> None:
    torch.testing.assert_close(found, expected, rtol=absolute if relative is None else relative, atol=absolute)
