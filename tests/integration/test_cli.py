"""The command line: the path from a CSV to recommendations, JSON for programs, sentences for people."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from facta import cli
from facta.errors import ConfigError
from facta.models.baselines import ItemKNN
from facta.ops import backend
from tests import worlds
from tests.integration.conftest import Facta

FAST = ["--set", "training.epochs=1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared dataset `log` with titles, and two artifacts: `popular` and `hstu`."""
    place = tmp_path_factory.mktemp("cli")
    frame = worlds.cycle()
    frame.with_columns(rating=1 + frame["item_id"] % 5).write_csv(place / "events.csv")
    titles = "\n".join(f"{item},Film {item}" for item in range(12))
    (place / "items.csv").write_text(f"item_id,title\n{titles}\n")
    commands: list[list[object]] = [
        ["prepare", place / "events.csv", "--items", place / "items.csv", "--out", place / "log"],
        ["train", "debug/popularity", "--data", place / "log", "--out", place / "popular"],
        ["train", "debug/hstu", "--data", place / "log", "--out", place / "hstu", *FAST],
    ]
    for command in commands:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr(sys, "argv", ["facta", *map(str, command)])
            cli.main()
        assert not ended.value.code, command
    return place


def test_a_table_of_several_artifacts_stands_under_its_protocol(facta: Facta, place: Path) -> None:
    said = facta("evaluate", place / "hstu", place / "popular", "--data", place / "log")
    assert said.code == 0
    tail = "order=user,time,row/users=with-history/ties=in-order/state=rolling/mask=history/rank=rated"
    assert f"loo-val/refit=no/targets=all/{tail}" in said.out
    assert "debug/hstu" in said.out and "debug/popularity against debug/hstu: NDCG@10 -" in said.out
    assert "[" in said.out and "NDCG@10" in said.out


def test_another_protocol_than_the_own_is_said(facta: Facta, place: Path) -> None:
    for key in ("mask", "protocol.mask"):
        said = facta("evaluate", str(place / "hstu"), "--data", str(place / "log"), "--set", f"{key}=nothing")
        assert "mask=nothing" in said.out
        assert re.search(r"debug/hstu was trained under \S*mask=history\S* and is measured under", said.err)


def test_evaluation_as_json(facta: Facta, place: Path, tmp_path: Path) -> None:
    said = facta(
        *("evaluate", place / "hstu", place / "popular", "--data", place / "log", "-k", 3, "-k", 5),
        *("--set", "mask=nothing", "--stage", "validation", "--out", tmp_path / "results", "--json"),
    )
    first, second = said.json["results"]
    assert first["name"] == "debug/hstu" and first["stage"] == "validation" and "mask=nothing" in first["protocol"]
    assert second["metrics"]["HR@3"]["low"] <= second["metrics"]["HR@3"]["mean"] <= second["metrics"]["HR@3"]["high"]
    (pair,) = said.json["comparisons"]
    assert pair["metric"] == "NDCG@5" and pair["verdict"] in ("better", "worse", "undecided")
    assert sorted(file.name for file in (tmp_path / "results").iterdir()) == [
        *("debug-hstu.json", "debug-hstu.npz", "debug-popularity.json", "debug-popularity.npz")
    ]


def test_a_report_for_people(facta: Facta, place: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the report draws with the extra `plot`")
    said = facta(
        *("evaluate", place / "hstu", place / "popular", "--data", place / "log"),
        *("--report", tmp_path / "report.html"),
    )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert said.code == 0 and "report.html" in said.err
    assert "debug/hstu" in page and "mask=history" in page and "data:image/svg+xml;base64," in page


def test_training_as_json(facta: Facta, place: Path, tmp_path: Path) -> None:
    said = facta("train", "debug/item-knn", "--data", place / "log", "--out", tmp_path / "knn", "--json")
    assert said.err.count("item-knn: NDCG@10 ") == len(ItemKNN.SHRINKAGES) * len(ItemKNN.HALF_LIVES)
    assert said.json["artifact"] == str(tmp_path / "knn") and len(said.json["fingerprint"]) == 16
    assert [result["stage"] for result in said.json["results"]] == ["validation", "test"]
    assert all(result["protocol"] for result in said.json["results"])


def test_recommendations_by_title_beside_what_the_user_rated_highest(facta: Facta, place: Path) -> None:
    asked = ("recommend", place / "popular", "--user", 0, "--data", place / "log", "-k", 2)
    said = facta(*asked)
    assert said.code == 0
    assert "Film 10 (10)" in said.out and "Film 11 (11)" in said.out  # all that user 0 has not met
    assert "history of user 0, rated highest first" in said.out
    best = [9, 4, 8, 3, 7, 2, 6, 1, 5, 0]  # of 0, 1, …, 9, rated 1 to 5 in turn; of equals the newest
    found = facta(*asked, "--json").json
    assert found["history"] == [
        {"id": item, "title": f"Film {item}", "values": {"rating": 1 + item % 5}} for item in best
    ]
    assert found["history_order"] == "rated highest first" and "liked" not in found
    shown = re.findall(r"│ Film \d+ \((\d+)\) +│ +(\d) +│$", said.out, re.MULTILINE)
    assert shown == [(str(item), str(1 + item % 5)) for item in best]


def test_ordinal_ratings_are_shown_like_numeric_ones(facta: Facta, place: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"fields": {"rating": {"kind": "ordinal", "positive": ">= 4"}}}')
    tables = [place / "events.csv", "--items", place / "items.csv", "--schema", tmp_path / "schema.json"]
    assert facta("prepare", *tables, "--out", tmp_path / "log").code == 0
    asked = ("recommend", place / "popular", "--user", 0, "-k", 2, "--json", "--data")
    assert facta(*asked, tmp_path / "log").json["history"] == facta(*asked, place / "log").json["history"]


def test_a_missing_rating_counts_for_nothing(facta: Facta, place: Path, tmp_path: Path) -> None:
    rated = (pl.col("item_id") < 3) & (pl.col("user_id") != 1)
    worlds.cycle().with_columns(rating=pl.when(rated).then(pl.col("item_id") + 1)).write_csv(tmp_path / "gaps.csv")
    assert facta("prepare", tmp_path / "gaps.csv", "--out", tmp_path / "gaps").code == 0
    asked = ("recommend", place / "popular", "--data", tmp_path / "gaps", "--json", "--user")
    found = facta(*asked, 0).json
    assert [event["values"] for event in found["history"]] == [{"rating": n} for n in (3, 2, 1)] + 7 * [{}]
    assert [event["id"] for event in found["history"]][:4] == [2, 1, 0, 9]  # what has no rating comes last
    assert facta(*asked, 1).json["history_order"] == "newest first"  # this user rated nothing


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ({"score": pl.col("item_id") * 2.5}, [{"score": 2.5 * item} for item in range(9, -1, -1)]),
        ({"rating": pl.col("item_id"), "score": pl.col("item_id")}, 10 * [{}]),
        ({"clicked": pl.col("item_id") > 3}, 10 * [{}]),
        ({}, 10 * [{}]),
    ],
)
def test_what_is_no_rating_is_shown_but_orders_nothing(
    facta: Facta, place: Path, tmp_path: Path, columns: dict[str, pl.Expr], shown: list[dict[str, float]]
) -> None:
    worlds.cycle().with_columns(**columns).write_parquet(tmp_path / "log.parquet")
    assert facta("prepare", tmp_path / "log.parquet", "--out", tmp_path / "log").code == 0
    asked = ("recommend", place / "popular", "--user", 0, "--data", tmp_path / "log")
    found = facta(*asked, "--json").json
    assert found["history_order"] == "newest first"
    assert [event["id"] for event in found["history"]] == list(range(9, -1, -1))
    assert [event["values"] for event in found["history"]] == shown
    said = facta(*asked)
    assert "history of user 0, newest first" in said.out and ("22.5" in said.out) == ("score" in shown[0])


def test_a_history_given_on_the_spot(facta: Facta, place: Path) -> None:
    given = ("--history", "3,4,99", "--times", "2020-01-01,2020-01-02,1577923200001", "--at", "2020-01-03T10:00")
    said = facta("recommend", place / "hstu", *given, "-k", 4, "--json")
    assert said.json["source"] == "model" and said.json["unknown"] == 1 and len(said.json["items"]) == 4
    assert not {3, 4} & {item["id"] for item in said.json["items"]}
    assert said.json["history"] == [
        {"id": id_, "title": title, "values": {}} for id_, title in ((99, None), (4, "Film 4"), (3, "Film 3"))
    ]
    mixed = facta("recommend", place / "hstu", "--history", "3,4", "--times", "2020-01-02,2020-01-01", *given[4:])
    assert mixed.code == 0 and "history, newest first" in mixed.out
    assert mixed.out.index("Film 3 (3)") < mixed.out.index("Film 4 (4)")
    again = facta("recommend", place / "hstu", *given, "-k", 12, "--exclude", "nothing", "--json")
    assert {3, 4} < {item["id"] for item in again.json["items"]}


def test_ids_with_commas_and_spaces_are_quoted_as_in_csv(facta: Facta, tmp_path: Path) -> None:
    ids = ["a,b", " c ", 'say "hi"', "history", "d"]
    log = pl.DataFrame({"user_id": [0] * 7 + [1] * 7, "item_id": [*ids, "e", "f"] * 2, "timestamp": range(14)})
    log.write_parquet(tmp_path / "log.parquet")
    assert facta("prepare", tmp_path / "log.parquet", "--out", tmp_path / "log", "--unit", "ms").code == 0
    artifact = tmp_path / "popular"
    assert facta("train", "debug/popularity", "--data", tmp_path / "log", "--out", artifact).code == 0
    asked = ("recommend", artifact, "--history", '"a,b", " c " ,"say ""hi""", d ,', "--exclude")
    found = facta(*asked, '"history",say "hi"', "--json").json
    assert [event["id"] for event in found["history"]] == ["d", 'say "hi"', " c ", "a,b"] and not found["unknown"]
    assert {item["id"] for item in found["items"]} == {"a,b", " c ", "d"}
    for torn in ('"a,b', '"a"b'):
        said = facta(*asked, torn)
        assert said.code == 1 and f"Found {torn} in a list; expected ids divided by commas" in said.err


def test_an_empty_history_gets_what_is_popular_and_is_told_so(facta: Facta, place: Path) -> None:
    said = facta("recommend", place / "hstu", "--history", "", "-k", 3)
    assert said.code == 0 and "most popular items" in said.err


def test_a_stored_user_is_cut_at_the_time_of_the_request(facta: Facta, place: Path) -> None:
    early = worlds.cycle().filter(user_id=0)["timestamp"][2]
    said = facta("recommend", place / "hstu", "--user", 0, "--data", place / "log", "--at", early, "--json")
    assert {item["id"] for item in said.json["history"]} == {0, 1, 2}
    assert not {0, 1, 2} & {item["id"] for item in said.json["items"]}  # seen by then
    assert {3, 4} < {item["id"] for item in said.json["items"]}  # met later


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ((), {"versions", "python", "system", "processors", "backend"}),
        (("--recipes",), {"recipes"}),
        (("debug/hstu",), {"name", "model", "training", "protocol"}),
        (("hstu",), {"name", "fingerprint", "model", "items", "cost", "results"}),
        (("popular",), {"name", "fingerprint", "model", "items", "cost", "results"}),
        (("log",), {"users", "items", "events", "content_hash", "order"}),
    ],
)
def test_info_says_what_things_are(facta: Facta, place: Path, what: tuple[str, ...], expected: set[str]) -> None:
    asked = [str(place / one) if (place / one).exists() else one for one in what]
    assert set(facta("info", *asked, "--json").json) >= expected
    assert facta("info", *asked).code == 0


def test_info_says_which_backend_runs_and_why(facta: Facta, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACTA_BACKEND", raising=False)
    name = backend.available()[0]
    reason = "facta was installed without" if name == backend.REFERENCE else f"the fastest of {name}, "
    assert facta("info", "--json").json["backend"].startswith(f"{name}: {reason}")
    monkeypatch.setenv("FACTA_BACKEND", "reference")
    assert facta("info", "--json").json["backend"] == "reference, as asked for"
    assert "reference, as asked for" in facta("info").out
    monkeypatch.setenv("FACTA_BACKEND", "sse2")
    said = facta("info")
    assert said.code and "There is no backend 'sse2'" in said.err


def test_info_names_the_backend_whose_memory_it_tells(
    facta: Facta, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fastest = facta("info", str(place / "hstu"), "--json").json["cost"]
    monkeypatch.setenv("FACTA_BACKEND", "reference")
    reference = facta("info", str(place / "hstu"), "--json").json["cost"]
    assert reference["activations_kept_by"] == "reference"
    same = fastest["activations_kept_by"] == "reference"
    assert same == (fastest["activation_bytes_per_event"] == reference["activation_bytes_per_event"])


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("train movielens-1m/bert --data {log} --out {new}", "movielens-1m has: .*movielens-1m/hstu"),
        ("train debug/hstu --data {log} --out {new} --set training.epoch=1", "valid keys: .*epochs"),
        ("train debug/hstu --data {log} --out {new} --set epochs", "expected KEY=VALUE"),
        ("train debug/hstu --data {log} --out {hstu}", "exists already.*--overwrite"),
        ("train debug/hstu --data {log} --out {log} --overwrite", "is no artifact"),
        ("train debug/hstu --data {hstu} --out {new}", "prepared dataset"),
        ("train debug/hstu --data {new} --out {new}2", "no prepared dataset"),
        ("train debug/hstu --data {log} --out {events}/x", "Cannot write"),
        ("evaluate {log} --data {log}", "It is a prepared dataset: pass it as --data"),
        ("evaluate {new} --data {log}", "no artifact"),
        ("evaluate {hstu} --data {log} --set mask=some", "nothing, history or window"),
        (
            "evaluate {hstu} --data {log} --set split=loo-paper --stage validation",
            "may have seen the targets of the validation",
        ),
        ("evaluate {hstu} {popular} --data {log} --metric NDGC@10", "NDCG@10"),
        ("evaluate {hstu} --data {log} --metric NDCG@10", "and a single artifact"),
        ("evaluate {hstu} --data {log} --out {events}/x", "Cannot write '.*events.csv/x' .*choose a place"),
        ("recommend {hstu} --history 3,4", "reads time"),
        ("recommend {hstu} --user 0 --data {log}", "reads time"),
        ("recommend {hstu} --history 3 --times soon --at now", "'soon'; expected milliseconds"),
        ("recommend {hstu} --history three --at now", "'three'; item ids here are whole numbers, such as 0"),
        ("recommend {hstu} --user zero --data {log} --at now", "user ids here are whole numbers"),
        ("recommend {hstu} --user 4711 --data {log} --at now", "4711"),
        ("recommend {hstu} --user 0", "Give either --user and --data, or --history"),
        ("recommend {hstu} --history 3 --user 0 --data {log}", "Give either"),
        ("recommend {popular} --history 3 --exclude all", "'all'; item ids here are whole numbers"),
        ("info {new}", "no artifact, no prepared dataset and no recipe"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_1(
    facta: Facta, place: Path, tmp_path: Path, command: str, sentence: str
) -> None:
    names = {name: place / name for name in ("log", "hstu", "popular")}
    said = facta(*command.format(**names, new=tmp_path / "new", events=place / "events.csv").split())
    assert said.code == 1 and said.out == ""
    assert "Traceback" not in said.err and len(said.err.strip().splitlines()) == 1
    assert said.err.startswith("facta: ")
    assert re.search(sentence, said.err), said.err
    assert not (tmp_path / "new").exists()


def test_a_damaged_artifact_is_one_sentence(facta: Facta, place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "hstu", tmp_path / "torn")
    with (tmp_path / "torn" / "model.safetensors").open("r+b") as file:
        file.truncate(100)
    for verb in (["evaluate", tmp_path / "torn", "--data", place / "log"], ["info", tmp_path / "torn"]):
        said = facta(*verb)
        assert said.code == 1 and "model.safetensors" in said.err and "checksum is wrong" in said.err


def test_wrong_usage_is_exit_code_2(facta: Facta) -> None:
    assert facta("evaluate").code == 2
    assert facta("recommend", "x", "-k", "0", "--history", "1").code == 2
    assert facta("conquer").code == 2


def test_the_stack_is_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTA_DEBUG", "")  # so that the variable is as before afterwards
    monkeypatch.setattr(sys, "argv", ["facta", "--debug", "info", "nothing/here"])
    with pytest.raises(ConfigError):
        cli.main()


def test_a_mistake_of_ours_is_still_no_stack(facta: Facta, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, Any]:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(sys.modules["facta.cli.info"], "_machine", broken)
    said = facta("info")
    assert said.code == 3 and "Traceback" not in said.err
    assert said.err == "facta: unexpected ZeroDivisionError: oops. Run `facta --debug …` for where it happened.\n"


def test_an_interrupt_is_one_sentence_in_every_verb(facta: Facta, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["facta.cli.info"], "_machine", interrupted)
    said = facta("info")
    assert (said.code, said.out) == (130, "")
    assert re.fullmatch(r"facta: interrupted; nothing half-written was left, .* when started again\.\n", said.err)


def test_an_interrupted_training_says_so_and_goes_on(place: Path, tmp_path: Path) -> None:
    script, journal = Path(sys.executable).with_name("facta"), tmp_path / "a.run" / "metrics.jsonl"
    command = [script, "train", "debug/hstu", "--data", place / "log", "--out", tmp_path / "a"]
    command += ["--set", "training.epochs=100000", "--set", "training.patience=null"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not journal.exists() or '"event": "step"' not in journal.read_text():
        assert run.poll() is None and time.monotonic() < deadline, run.communicate()
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=120)
    assert (run.returncode, out) == (130, ""), err
    assert "the same command goes on from there.\nfacta: interrupted; " in err and "Traceback" not in err
    assert list((tmp_path / "a.run" / "checkpoints").glob("step-*"))


def test_the_console_script_and_help(place: Path) -> None:
    script = Path(sys.executable).with_name("facta")
    assert subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout.startswith("facta ")
    failed = subprocess.run([script, "info", place / "no"], capture_output=True, text=True, check=False)
    assert failed.returncode == 1 and failed.stdout == "" and failed.stderr.startswith("facta: ")


@pytest.mark.parametrize(
    "verb", ["", "data", "prepare", "doctor", "train", "tune", "evaluate", "recommend", "rank", "info"]
)
def test_every_verb_has_help(facta: Facta, verb: str) -> None:
    said = facta(*([verb] if verb else []), "--help")
    assert said.code == 0 and "Usage: facta" in said.out


def test_a_schema_says_what_the_columns_of_all_tables_mean(facta: Facta, tmp_path: Path) -> None:
    rows = [(user, item, 1_700_000_000 + item, item % 2, item) for user in (1, 2) for item in range(4)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "click", "stars"], orient="row")
    log.write_csv(tmp_path / "log.csv")
    log.select("item_id", kind=pl.col("stars") % 3).unique("item_id").write_csv(tmp_path / "items.csv")
    pl.DataFrame({"user_id": [2, 1], "before": [[3], [9, 0]]}).write_ndjson(tmp_path / "users.jsonl")
    (tmp_path / "series.csv").write_text("user_id,timestamp,field,value\n1,1700000000,city,Ulm\n")
    stars = {"kind": "ordinal", "positive": ">= 3", "undefined": "click = 0"}
    schema = {"fields": {"stars": stars}, "items": {"kind": "categorical"}, "users": {"before": "items"}}
    (tmp_path / "schema.json").write_text(json.dumps({**schema, "series": ["city"]}))
    tables = [f"--{name}={tmp_path / file}" for name, file in (("items", "items.csv"), ("users", "users.jsonl"))]
    command = [tmp_path / "log.csv", *tables, "--series", tmp_path / "series.csv", "--schema", tmp_path / "schema.json"]
    said = facta("prepare", *command, "--out", tmp_path / "log", "--field", "click:context", "--json")
    assert said.code == 0, said.err
    assert [(one["name"], one["role"], one["positive"]) for one in said.json["fields"]] == [
        ("stars", "feedback", [2]),
        ("click", "context", None),
    ]
    assert [said.json[f"{what}_fields"][0]["kind"] for what in ("item", "user", "series")] == [
        "categorical",
        "items",
        "categorical",
    ]
    assert said.json["items"] == 5  # one of them known from a user's earlier history alone
    assert facta("doctor", tmp_path / "log.csv", "--schema", tmp_path / "schema.json").code == 0
    (tmp_path / "schema.json").write_text("[]")
    said = facta("prepare", *command, "--out", tmp_path / "log")
    assert said.code == 1 and "holds a list; expected an object such as" in said.err
    said = facta("prepare", *command[:-1], tmp_path / "no.json", "--out", tmp_path / "log")
    assert said.code == 1 and "expected a file of JSON" in said.err


def test_a_simulated_service_becomes_a_dataset(facta: Facta, tmp_path: Path) -> None:
    asked = ("--users", 60, "--items", 40, "--events-per-user", 20)
    said = facta("data", "simulate", tmp_path / "a", *asked, "--seed", 5, "--json")
    assert said.code == 0, said.err
    assert said.json["users"] == 60 and said.json["events_per_second"] > 0
    facta("data", "simulate", tmp_path / "b", *asked, "--seed", 6)
    logs = [pl.read_parquet(tmp_path / name / "events.parquet") for name in "ab"]
    assert said.json["events"] == logs[0].height and not logs[0].equals(logs[1])
    again = facta("data", "simulate", tmp_path / "c", *asked, "--seed", 5)
    assert pl.read_parquet(tmp_path / "c" / "events.parquet").equals(logs[0]) and "events a second" in again.err
    command = re.search(r"^facta (prepare .*) --out DIR$", again.err, re.MULTILINE)
    assert command is not None
    prepared = facta(*command[1].split(), "--out", tmp_path / "log", "--json")
    assert (prepared.code, prepared.json["users"], prepared.json["items"]) == (0, 60, 40)
    assert facta("data", "simulate", tmp_path / "a", *asked).code == 1


def test_public_datasets_are_commands_of_their_own(facta: Facta, tmp_path: Path) -> None:
    assert "KuaiRand-Pure" in facta("data", "--help").out
    said = facta("data", "movielens", "--out", tmp_path / "no")
    assert said.code == 1 and "no public dataset 'movielens'; there are: movielens-100k, movielens-1m" in said.err
    said = facta("data", "movielens-100k", "--from", tmp_path / "nowhere", "--out", tmp_path / "no")
    assert said.code == 1 and "does not exist" in said.err
