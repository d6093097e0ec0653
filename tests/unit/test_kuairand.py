"""KuaiRand-Pure from four small files: what is context, what is feedback, what was before, and what repeats."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.codes import codes
from facta.data.dataset.dataset import Dataset
from facta.data.public import kuairand, sources
from facta.data.public.origins import checksum
from facta.data.public.sources import FileSet, Source

T = 1_650_812_741_436
LOG = """user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,\
play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab
7,20,20220425,0,{0},1,0,0,0,0,0,1,61802,49866,0,0,0,0,1
8,10,20220425,0,{1},0,0,0,0,0,1,0,0,11933,0,0,0,0,10
7,10,20220425,0,{2},1,1,0,0,0,0,0,5000,11933,0,0,1,0,1
8,10,20220425,0,{1},0,0,0,0,0,1,0,0,11933,0,0,0,0,10
8,10,20220425,5,{1},0,0,0,0,0,1,0,0,11933,0,0,0,0,10
""".format(T, T + 1, T + 2)
VIDEOS = """video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,\
server_height,music_id,music_type,tag
10,5,NORMAL,2022-04-10,Web,0.0,11933.0,720.0,1280.0,1,9.0,"39,2"
20,6,AD,2022-04-09,Kmovie,0.0,,720.0,1280.0,2,,
30,6,AD,2022-04-09,Kmovie,0.0,9000.0,720.0,1280.0,3,4.0,2
"""
COUNTS = dict.fromkeys(("follow_user_num", "fans_user_num", "friend_user_num", "register_days"), 5)
NUMBERS = {"is_live_streamer": -124, "onehot_feat12": 1.0, **COUNTS}
HISTORY = [
    {"user_id": 8, "last_time_ms": 1, "rows": 3, "shown": [30, 10, 30], "like": [], "long_view": [30]},
    {"user_id": 9, "last_time_ms": 1, "rows": 1, "shown": [10], "like": [], "long_view": []},
]


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    columns = [*kuairand.SCHEMA.users]
    facts = [name for name in columns if not name.startswith("earlier_")]
    assert len(facts) == 30  # of the publisher's 31 columns the id is none
    users = pl.DataFrame([{"user_id": user, **{name: NUMBERS.get(name, "a") for name in facts}} for user in (7, 8, 9)])
    form = sources.SOURCES["kuairand-pure"].forms[0]
    contents = [LOG, users.write_csv(), VIDEOS, "".join(json.dumps(line) + "\n" for line in HISTORY)]
    for name, content in zip(form.files, contents, strict=True):
        (tmp_path / name).write_text(content)
    sums = {name: checksum((tmp_path / name).read_bytes(), "md5") for name in form.files}
    source = sources.SOURCES["kuairand-pure"]
    small = Source(source.title, source.unit, (FileSet(sums, form.read),), source.schema, source.drop)
    monkeypatch.setitem(sources.SOURCES, "kuairand-pure", small)
    return sources.get("kuairand-pure", tmp_path / "out", place=tmp_path)


def test_events_are_what_people_did(dataset: Dataset) -> None:
    fields = {field.name: field for field in dataset.manifest.fields}
    assert [name for name, field in fields.items() if field.role == "context"] == ["tab"]
    assert {fields[name].kind for name in fields if name not in ("tab", "play_time")} == {"binary"}
    assert fields["tab"].categories == ("1", "10") and fields["play_time"].kind == "numeric"
    assert dataset.timestamp is not None and (dataset.timestamp - T).tolist() == [0, 2, 1, 1]
    found = {name: codes(field, dataset.fields[name]).tolist() for name, field in fields.items()}
    assert found["click"] == [2, 2, 1, 1] and found["long_view"] == [2, 1, 1, 1] and found["hate"] == [1, 1, 2, 2]
    assert found["profile_enter"] == [1, 2, 1, 1]
    # One line repeats another in every column; one differs in a column that is not kept.
    assert "Dropped 1 event that repeated an earlier one in every column." in dataset.manifest.notes


def test_videos_have_features_and_no_event_knows_the_duration(dataset: Dataset) -> None:
    assert "duration_ms" not in dataset.fields
    features = Catalogue.of(dataset).features
    assert features["tag"].field.categories == ("2", "39")
    tags = features["tag"]
    assert tags.offsets is not None
    assert [tags.values[a:b].tolist() for a, b in pairwise(tags.offsets.tolist())] == [[2, 1], [], [1]]
    assert features["duration"].values.tolist() == [2, 0, 1]
    assert features["upload_day"].values.tolist() == [2, 1, 1]
    assert features["music_type"].field.categories == ("4", "9")


def test_users_have_facts_and_an_earlier_history(dataset: Dataset) -> None:
    facts = dataset.user_facts
    assert dataset.users["user_id"].to_list() == [7, 8] and len(facts) == 33
    assert facts["is_live_streamer"].field.categories == ("-124",) and facts["onehot_feat12"].field.categories == ("1",)
    shown = facts["earlier_shown"]
    assert shown.offsets is not None and shown.offsets.tolist() == [0, 0, 3]
    assert (shown.values - 1).tolist() == dataset.item_rows([30, 10, 30]).tolist()
    assert facts["earlier_like"].values.tolist() == []


def test_the_licence_is_said() -> None:
    assert "CC BY-SA 4.0" in sources.SOURCES["kuairand-pure"].title
