"""KuaiRand-Pure: impressions of a short-video app over two weeks, with all feedback.

Gao et al., "KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed Videos" (CIKM 2022), under CC
BY-SA 4.0. Read here: the standard log of 2022-04-25 to 05-08, the features of users and videos, and for each user the
last (at most) 50 videos shown, liked and viewed long in the two and a half weeks before, without times.

The tab of the app is known before the video and is context; what people did is feedback; a video's duration and all
that is known of it are features of the item. 5,460 lines of the published log repeat another line exactly.
"""

from __future__ import annotations

import io

import polars as pl

from facta.data.dataset.schema import SchemaConfig
from facta.data.public.origins import Files
from facta.data.public.tables import Tables

_BINARY = ("click", "long_view", "like", "follow", "comment", "forward", "hate", "profile_enter")
_COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
_CATEGORIES = (
    *("user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author"),
    *("follow_user_num_range", "fans_user_num_range", "friend_user_num_range", "register_days_range"),
    *(f"onehot_feat{place}" for place in range(18)),
)
_EARLIER = ("shown", "like", "long_view")

SCHEMA = SchemaConfig(
    fields={
        "tab": {"role": "context", "kind": "categorical"},
        **{name: {"kind": "binary"} for name in _BINARY},
        "play_time": {"kind": "numeric"},  # milliseconds
    },
    items={
        **dict.fromkeys(("author_id", "video_type", "upload_type", "visible_status", "music_type"), "categorical"),
        "tag": "multi",
        **dict.fromkeys(("duration", "upload_day", "server_width", "server_height"), "numeric"),
    },
    users={
        **dict.fromkeys(_CATEGORIES, "categorical"),
        **dict.fromkeys(_COUNTS, "numeric"),
        **{f"earlier_{name}": "items" for name in _EARLIER},
    },
)


def part(files: Files) -> Tables:
    """The log, both feature files and the earlier histories."""
    return Tables(
        events=_events(files["log_standard_4_25_to_5_08_pure.csv"]),
        items=_videos(files["video_features_basic_pure.csv"]),
        users=_users(files["user_features_pure.csv"], files["history_4_08_to_4_24.jsonl"]),
    )


def _events(content: bytes) -> pl.DataFrame:
    """Every column of the log: only lines that are equal in all columns are repetitions."""
    frame = _csv(content)
    names = {f"is_{name}": name for name in _BINARY if name != "long_view"}
    names |= {"video_id": "item_id", "time_ms": "timestamp", "play_time_ms": "play_time"}
    return frame.rename(names)


def _videos(content: bytes) -> pl.DataFrame:
    names = {"video_id": "item_id", "video_duration": "duration", "upload_dt": "upload_day"}
    day, tag = pl.col("upload_day").str.to_date(), pl.col("tag").cast(pl.String).str.replace_all(",", "|")
    return _csv(content).rename(names).with_columns(day, tag)


def _users(features: bytes, earlier: bytes) -> pl.DataFrame:
    lists = pl.read_ndjson(io.BytesIO(earlier), schema_overrides=dict.fromkeys(_EARLIER, pl.List(pl.Int64)))
    lists = lists.select("user_id", *(pl.col(name).alias(f"earlier_{name}") for name in _EARLIER))
    return _csv(features).join(lists, on="user_id", how="full", coalesce=True, maintain_order="left_right")


def _csv(content: bytes) -> pl.DataFrame:
    return pl.read_csv(io.BytesIO(content), infer_schema_length=None)
