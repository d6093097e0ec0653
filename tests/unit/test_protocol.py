"""Protocols: what the id says is what is asked, masked and ranked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from facta.errors import ConfigError, ProtocolError
from facta.eval.evaluation import evaluate
from facta.eval.experiment import Experiment
from facta.eval.protocol import ProtocolConfig
from tests.rankers import MINUTE, T0, Fixed, Seeded, dataset_of, random_log

HISTORIES = {
    "a": [(1, 0), (2, 10), (3, 20), (4, 30)],
    "b": [(5, 5), (1, 25), (2, 25), (3, 25)],
    "c": [(4, 1), (5, 40), (1, 45)],
}


def test_ids_of_the_named_protocols() -> None:
    tail = "targets=all/order=user,time,row/users=with-history/ties=in-order/state=rolling/mask=history/rank=rated"
    assert ProtocolConfig().id == f"loo-val/refit=no/{tail}"
    assert ProtocolConfig(split="loo-paper").id == f"loo-paper/refit=no/{tail}"
    temporal = ProtocolConfig(split="temporal", train_end="80%", validation_end="90%", state="frozen", mask="nothing")
    assert temporal.id == (
        "temporal/train-end=80%/validation-end=90%/refit=no/targets=all/order=user,time,row/users=with-history/ties=in-order/state=frozen/mask=nothing/rank=rated"
    )


def test_every_choice_changes_the_id() -> None:
    base = ProtocolConfig(split="temporal", train_end="80%", validation_end="90%")
    changed = [
        base,
        ProtocolConfig(),
        ProtocolConfig(split="loo-paper"),
        base.change(train_end="70%"),
        base.change(validation_end="2020-01-01"),
        base.change(refit="yes"),
        base.change(ties="blind"),
        base.change(targets="buy"),
        base.change(state="frozen"),
        base.change(mask="window(200)"),
        base.change(mask="nothing"),
        base.change(rank="all"),
    ]
    assert len({protocol.id for protocol in changed}) == len(changed)
    of_feedback = [*changed[:6], base.change(state="frozen")]  # ties, masks and what is ranked are not of feedback
    assert len({protocol.feedback_id for protocol in of_feedback}) == len(of_feedback)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mask": "window"}, r"window\(N\)"),
        ({"mask": "window(0)"}, r"window\(N\)"),
        ({"split": "temporal"}, "needs train_end"),
        ({"train_end": "80%"}, "loo-val has none"),
        ({"state": "frozen"}, "or a temporal split"),
        ({"masked": "history"}, "Unknown key 'masked'"),
        ({"rank": "sample"}, "'rated', 'all' or 'trained'"),
    ],
)
def test_contradictions_are_refused(values: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ProtocolConfig.parse(values)


@pytest.mark.parametrize("share", ["0%", "0.0%", "100.1%", "150%"])
def test_shares_lie_between_nothing_and_all(share: str) -> None:
    for cut in ("train_end", "validation_end"):
        with pytest.raises(ConfigError, match=f"^Found the share '{share}' as {cut}; expected more than 0%"):
            ProtocolConfig.parse({"split": "temporal", "train_end": "80%", "validation_end": "90%", cut: share})
    assert ProtocolConfig(split="temporal", train_end="0.5%", validation_end="100%")


def test_stages_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    """A misspelt validation must not be measured on test."""
    data = dataset_of(tmp_path / "d", HISTORIES)
    with pytest.raises(ConfigError, match=r"^Found the stage 'val'; expected one of: validation, test\.$"):
        evaluate(Fixed(data, {}), Experiment(data, ProtocolConfig()), stage="val")  # type: ignore[arg-type]


def test_a_cut_that_is_no_time_is_refused(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", HISTORIES)
    for cut in ("soon", "1611111211234", "80"):  # Python reads the second one as a day of the year 1611
        with pytest.raises(ConfigError, match=f"'{cut}'; expected a share such as 80%"):
            ProtocolConfig(split="temporal", train_end=cut, validation_end="90%").cut(data)


@pytest.mark.parametrize(("train", "validation"), [("90%", "80%"), ("2020-09-14", "80%"), ("2020-09-14", "2020-09-13")])
def test_cuts_in_the_wrong_order_are_said_as_they_were_given(tmp_path: Path, train: str, validation: str) -> None:
    protocol = ProtocolConfig(split="temporal", train_end=train, validation_end=validation)
    with pytest.raises(ProtocolError, match=f"^train_end {train} lies after validation_end {validation}; training"):
        protocol.cut(dataset_of(tmp_path / "d", HISTORIES))


def test_cuts_are_shares_or_utc_times(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", HISTORIES)
    # T0 is 2020-09-13T12:26:40Z
    by_time = ProtocolConfig(split="temporal", train_end="2020-09-13T12:46:40", validation_end="2020-09-13T13:06:40Z")
    split = by_time.cut(data)
    users = data.users["user_id"].to_list()
    assert dict(zip(users, split.train_end.tolist(), strict=True)) == {"a": 2, "b": 1, "c": 1}
    asked = Experiment(data, by_time).test.time
    assert asked is not None and (asked >= T0 + 40 * MINUTE).all()
    by_share = ProtocolConfig(split="temporal", train_end="50%", validation_end="80%").cut(data)
    assert by_share.train_end.sum() <= data.num_events // 2


def hits(tmp_path: Path, protocol: ProtocolConfig, scores: dict[int, float]) -> tuple[float, list[list[int]]]:
    """HR@2 on test, and the lists in item ids, by user."""
    data = dataset_of(tmp_path / protocol.id.replace("/", "_"), HISTORIES, titles=range(1, 9))
    found = evaluate(Fixed(data, scores), Experiment(data, protocol), ks=(2,))
    ids = np.array([*data.items["item_id"].to_list(), -1])
    return found.means["HR@2"], ids[found.lists].tolist()


def test_mask_and_rank_do_what_the_id_says(tmp_path: Path) -> None:
    scores = {1: 9.0, 2: 8.0, 8: 7.0, 3: 6.0, 4: 5.0, 5: 4.0}  # 8 has a title and no event
    base = ProtocolConfig()
    assert hits(tmp_path, base, scores)[1] == [[4, 5], [3, 4], [1, 2]]
    assert hits(tmp_path, base.change(rank="all"), scores)[1] == [[8, 4], [8, 3], [1, 2]]
    assert hits(tmp_path, base.change(mask="nothing"), scores)[1] == [[1, 2], [1, 2], [1, 2]]
    assert hits(tmp_path, base.change(mask="window(1)"), scores)[1] == [[1, 2], [1, 3], [1, 2]]


def test_blind_ties_hide_events_of_the_target_s_own_time(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", HISTORIES)
    for ties, visible in (("in-order", [2, 3, 3]), ("blind", [1, 2, 3])):
        ranker = Seeded(data.num_items)
        evaluate(ranker, Experiment(data, ProtocolConfig.parse({"ties": ties})))
        assert sorted(ranker.batches[0].offsets.diff().tolist()) == visible


def test_frozen_asks_once_for_all_of_the_period_and_rolling_once_an_event(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", random_log())
    frozen = ProtocolConfig(split="temporal", train_end="50%", validation_end="60%", state="frozen")
    rolling = frozen.change(state="rolling")
    asked = {p.state: evaluate(Seeded(data.num_items), Experiment(data, p), ks=(10,)) for p in (frozen, rolling)}
    assert asked["frozen"].requests == len(asked["frozen"].user)
    assert asked["rolling"].requests > len(asked["rolling"].user)
    assert (asked["frozen"].values["Recall@10"] <= asked["frozen"].values["RecallCapped@10"]).all()


def test_validation_is_refused_where_there_is_none(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", HISTORIES)
    with pytest.raises(ProtocolError, match=r"no validation request.*loo-val"):
        evaluate(Seeded(data.num_items), Experiment(data, ProtocolConfig(split="loo-paper")), stage="validation")


def test_list_lengths_are_checked(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "d", HISTORIES)
    for ks in ((), (0, 10)):
        with pytest.raises(ConfigError, match="at least 1"):
            evaluate(Seeded(data.num_items), Experiment(data, ProtocolConfig()), ks=ks)


def test_config_is_frozen() -> None:
    with pytest.raises(ValidationError):
        ProtocolConfig().mask = "nothing"  # type: ignore[misc]
