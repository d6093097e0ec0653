"""`recommend` and `rank` for many users: into one Parquet file, the lists that each user gets alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

import facta as library
from tests.integration.conftest import Facta
from tests.integration.test_cli_feedback import place as place  # the fixture


@pytest.fixture(scope="module")
def knn(place: Path) -> Path:
    log = library.Dataset.open(place / "log")
    library.train(log, "movielens-1m/item-knn", place / "knn")
    return place / "knn"


def test_all_users_and_some_users(facta: Facta, place: Path, knn: Path, tmp_path: Path) -> None:
    asked, out = ("recommend", knn, "--data", place / "log", "-k", 3, "--at", "2030-01-01"), tmp_path / "top.parquet"
    said = facta(*asked, "--all-users", "--out", out, "--json")
    assert said.code == 0 and said.json["users"] == 60 and said.json["lines"] == 180
    lists = pl.read_parquet(out)
    assert lists.columns == ["user_id", "rank", "item_id", "score", "title", "source"]
    alone = facta(*asked, "--user", 17, "--json").json["items"]
    of_one = lists.filter(pl.col("user_id") == 17)
    assert of_one["item_id"].to_list() == [item["id"] for item in alone]
    (tmp_path / "some.txt").write_text("17\n\n3\n")
    (tmp_path / "some.csv").write_text("name,user_id\nx,17\ny,3\n")
    for file in ("some.txt", "some.csv"):
        again = facta(*asked, "--users-file", tmp_path / file, "--out", out)
        assert again.code == 1 and "--overwrite" in again.err
        assert facta(*asked, "--users-file", tmp_path / file, "--out", out, "--overwrite").code == 0
        assert pl.read_parquet(out).equals(pl.concat([of_one, lists.filter(pl.col("user_id") == 3)]))


def test_candidates_for_all_users_and_pairs(facta: Facta, place: Path, tmp_path: Path) -> None:
    told = ("--data", place / "log", "--at", "2030-01-01", "--context", "surface=similar", "--by", "long_view")
    asked, out = ("rank", place / "ranking", *told), tmp_path / "ranked.parquet"
    (tmp_path / "ids.txt").write_text("4\n2\n99\n7\n")
    assert facta(*asked, "--all-users", "--candidates-file", tmp_path / "ids.txt", "--out", out, "-k", 2).code == 0
    lists = pl.read_parquet(out)
    assert len(lists) == 120 and set(lists["rank"]) == {1, 2}
    alone = facta(*asked, "--user", 3, "--candidates", "4,2,99,7", "--json").json["items"]
    assert lists.filter(pl.col("user_id") == 3)["item_id"].to_list() == [item["id"] for item in alone[:2]]
    (tmp_path / "pairs.csv").write_text("user_id,item_id\n3,4\n5,7\n3,2\n")
    given = ("--all-users", "--candidates-file", tmp_path / "pairs.csv", "--out", out, "--overwrite")
    assert facta(*asked, *given).code == 0
    assert sorted(pl.read_parquet(out).select("user_id", "item_id").rows()) == [(3, 2), (3, 4), (5, 7)]


@pytest.mark.parametrize(
    "options",
    ["--all-users", "--out {out}", "--all-users --out {out}", "--user 3 --data {log} --all-users --out {out}"],
)
def test_options_that_do_not_go_together_are_one_sentence(facta: Facta, place: Path, knn: Path, options: str) -> None:
    words = options.format(out=place / "x.parquet", log=place / "log").split()
    said = facta("recommend", knn, *words)
    assert said.code == 1 and "need --data, --out, and either --all-users or --users-file" in said.err


SLOW = """
import time
from facta import cli
from facta.infer import bulk
bulk.USERS = 10
finished = bulk.recommended
def slowly(*asked):
    time.sleep(PAUSE)
    return finished(*asked)
bulk.recommended = slowly
cli.main()
"""


def test_a_killed_run_goes_on_for_its_first_moment(place: Path, knn: Path, tmp_path: Path) -> None:
    """Killed between two parts: the same command with `--at now` ends in the file of one run at the first moment."""
    out = tmp_path / "top.parquet"
    words = ["recommend", knn, "--data", place / "log", "--all-users", "--at", "now", "--out", out]

    def start(pause: float) -> subprocess.Popen[bytes]:
        code = SLOW.replace("PAUSE", str(pause))
        return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stderr=subprocess.PIPE)

    running, parts = start(0.5), tmp_path / "top.parquet.parts"
    while len(list(parts.glob("0*.parquet"))) < 2:
        assert running.poll() is None
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    begun = json.loads((parts / "identity.json").read_text())["at"]
    done = {path.name: path.stat().st_mtime_ns for path in parts.glob("0*.parquet")}
    assert len(done) < 6 and not out.exists()
    again = start(0)
    _, err = again.communicate()
    assert again.returncode == 0 and b"it goes on for that moment" in err
    artifact, log = library.load(knn), library.Dataset.open(place / "log")
    expected = artifact.recommend_users(log, 10, at=begun)
    assert pl.read_parquet(out).equals(expected) and not parts.exists()
