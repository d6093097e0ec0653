"""What a person sees during training, and when the alarm sounds."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from facta.training import alarm
from facta.training.log import Log, clock
from facta.types import Negatives
from tests.toy_training import ToyBatches, ToyModel, toy_config, toy_trainer

DAY = 86_400_000


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def steps_of(log: Log, count: int = 4) -> None:
    log.begin(epochs=2)
    for step in range(1, count + 1):
        log.step(1 + step * 2 // (count + 1), step / count, 5.0 / step, 1000.0)
    log.end()


def test_plain_lines_carry_epoch_share_loss_speed_and_time_left() -> None:
    stream = io.StringIO()
    steps_of(Log(stream=stream, interval=0.0))
    first, *_, last = stream.getvalue().splitlines()
    assert first.startswith("epoch 1/2   25%  loss 5.0000  1,000 events/s")
    assert last.startswith("epoch 2/2  100%  loss 4.1225  1,000 events/s  0:00 left")


def test_plain_lines_are_few() -> None:
    stream = io.StringIO()
    steps_of(Log(stream=stream, interval=60.0), count=500)
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar() -> None:
    stream = Terminal()
    log = Log(stream=stream)
    assert log.mode == "bar"
    steps_of(log)
    assert "━" in stream.getvalue() and "1,000 events/s" in stream.getvalue() and "epoch 2/2" in stream.getvalue()


def test_the_end_says_why_it_ended_and_which_weights_were_kept(tmp_path: Path) -> None:
    stream = io.StringIO()
    config = toy_config(epochs=3)
    toy_trainer(tmp_path, config, popularity={"MRR": 0.25, "HR@1": 0.0}, log=Log("plain", stream)).fit()
    *_, validation, last = stream.getvalue().splitlines()
    assert validation.startswith("epoch 3/3  validation MRR 0.4") and "(popularity 0.2500)" in validation
    assert last.startswith("Trained 3 epochs, 0:00 in steps: all epochs are done; kept epoch 3, MRR 0.4")


def test_quiet_says_nothing_not_even_the_alarm() -> None:
    stream = io.StringIO()
    log = Log("quiet", stream, interval=0.0)
    steps_of(log)
    log.validation(1, "MRR", 0.1, True, 0.2)
    log.alarm("MRR", 0.1, 0.2, 5, ["look"])
    assert stream.getvalue() == ""


def test_brackets_in_paths_are_printed_as_they_are() -> None:
    stream = io.StringIO()
    Log("plain", stream).say("in /tmp/[bold]run[0]")
    assert stream.getvalue() == "in /tmp/[bold]run[0]\n"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (65, "1:05"), (7205, "2:00:05")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


# --- the alarm ---


class Deaf(ToyModel):
    """Its loss does not depend on what it sees, so it learns nothing."""

    def forward(self, batch, negatives):  # type: ignore[no-untyped-def]
        found = super().forward(batch, negatives)["next_item"]
        return {"next_item": found._replace(total=found.total.detach() + 0 * self.bias.sum())}


def said(tmp_path: Path, model: ToyModel, popularity: float | None, **config: object) -> str:
    stream = io.StringIO()
    measured = None if popularity is None else {"MRR": popularity, "HR@1": 0.0}
    toy_trainer(
        tmp_path, toy_config(epochs=8, **config), model=model, popularity=measured, log=Log("plain", stream)
    ).fit()
    return stream.getvalue()


def test_a_model_that_learns_nothing_is_told_once_in_time_with_a_list(tmp_path: Path) -> None:
    text = said(tmp_path, Deaf(), 0.45, alarm_after=3)
    before, after = text.split("ALARM: after 3 validations the model does not beat popularity (MRR 0.")
    assert "epoch 3/8  validation" in before and "epoch 4/8  validation" not in before
    assert "against 0.4500). Look at, in this order:\n  1. Learning rate: the loss is flat" in after
    assert "ALARM" not in after


@pytest.mark.parametrize(
    ("popularity", "config"),
    [(0.45, {"alarm_after": 6}), (0.45, {"alarm_after": None}), (None, {"alarm_after": 1}), (0.99, {"alarm_after": 9})],
    ids=["it learns", "switched off", "popularity unknown", "too early to tell"],
)
def test_no_alarm(tmp_path: Path, popularity: float | None, config: dict[str, object]) -> None:
    assert "ALARM" not in said(tmp_path, ToyModel(), popularity, **config)


def evidence(gap_ms: int = DAY, *, losses: tuple[float, ...] = (5.0, 4.0), negatives: int = 500) -> alarm.Evidence:
    batch = ToyBatches().batch(0, 0)
    assert batch.events.time is not None
    batch.events.time.div_(3_600_000, rounding_mode="floor").mul_(gap_ms)
    return alarm.Evidence(losses, 0.01, batch, Negatives(each=negatives), 1000)


def test_nothing_suspicious_keeps_the_order_unit_rate_negatives_ties() -> None:
    heads = [text.split(":")[0] for text in alarm.advice(evidence())]
    assert heads == ["Time unit", "Learning rate", "Negatives", "Ties"]


@pytest.mark.parametrize(
    ("found", "head", "number"),
    [
        (evidence(gap_ms=86), "Time unit", "0.086 seconds"),
        (evidence(gap_ms=DAY * 1000 * 30), "Time unit", "82.2 years"),
        (evidence(losses=(5.0, 4.99)), "Learning rate", "5 → 4.99"),
        (evidence(losses=(5.0, 9.0)), "Learning rate", "5 → 9"),
        (evidence(negatives=1), "Negatives", "1 a target for 1,000 items"),
        (evidence(gap_ms=0), "Ties", "100%"),
    ],
)
def test_what_is_suspicious_comes_first_with_its_number(found: alarm.Evidence, head: str, number: str) -> None:
    first = alarm.advice(found)[0]
    assert first.startswith(head) and number in first


def test_gaps_are_within_users_and_data_without_times_has_none() -> None:
    batch = ToyBatches(size=8, length=5).batch(0, 0)
    gaps = alarm._gaps(batch)  # from one user's last event to the next user's first is no gap
    assert gaps is not None and torch.equal(gaps, torch.full((8 * 4,), 3_600_000))
    timeless = replace(evidence(), batch=replace(batch, events=replace(batch.events, time=None)))
    assert [text.split(":")[0] for text in alarm.advice(timeless)] == ["Learning rate", "Negatives"]


def test_full_softmax_and_shared_negatives_are_counted() -> None:
    found = evidence()
    assert "none are drawn" in alarm.advice(replace(found, negatives=Negatives()))[2]
    assert "70 a target" in alarm.advice(replace(found, negatives=Negatives(shared=torch.arange(70))))[2]
