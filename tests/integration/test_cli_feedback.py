"""The command line for models of feedback: candidates ranked, predictions measured and drawn."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import polars as pl
import pytest

import facta as library
from facta import cli
from tests.integration.conftest import Facta

SMALL = ["training.epochs=1", "model.window=8", "model.width=8", "model.encoder.layers=1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated service `log`, and two artifacts that have learned its feedback: `ranking` and `fused`."""
    place = tmp_path_factory.mktemp("feedback")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    tables = [place / "sim" / "events.parquet", "--items", place / "sim" / "items.parquet"]
    commands: list[list[object]] = [
        ["data", "simulate", place / "sim", "--users", 60, "--items", 40, "--events-per-user", 20],
        ["prepare", *tables, "--schema", place / "sim" / "schema.json", "--out", place / "log"],
        ["train", "simulator/gr-ranking", "--data", place / "log", "--out", place / "ranking", *settings],
        ["train", "simulator/gr-fused", "--data", place / "log", "--out", place / "fused", *settings],
    ]
    for command in commands:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr(sys, "argv", ["facta", *map(str, command)])
            cli.main()
        assert not ended.value.code, command
    return place


def test_candidates_of_a_stored_user_come_with_titles_and_scores(facta: Facta, place: Path, tmp_path: Path) -> None:
    asked = ("rank", place / "ranking", "--user", 3, "--data", place / "log", "--at", "2030-01-01")
    surface = ("--context", "surface=similar")
    said = facta(*asked, *surface, "--candidates", "4,2,99,7", "--by", "long_view")
    assert said.code == 0 and "Left out 1 candidate that the catalogue" in said.err
    assert "long_view" in said.out and "Item 4, category" in said.out
    found = facta(*asked, *surface, "--candidates", "4,2,99,7", "--by", "long_view", "--json").json
    assert found["left_out"] == 1 and found["by"] == {"long_view": 1.0} and found["at"] == "2030-01-01"
    order = [item["scores"]["long_view"] for item in found["items"]]
    assert sorted(item["id"] for item in found["items"]) == [2, 4, 7] and order == sorted(order, reverse=True)
    (tmp_path / "ids.txt").write_text("4\n\n 2 \n99\n7\n")
    filed = facta(*asked, *surface, "--candidates-file", tmp_path / "ids.txt", "--by", "long_view=1", "--json").json
    assert filed == found
    artifact, log = library.load(place / "ranking"), library.Dataset.open(place / "log")
    ranking = artifact.rank(library.history_of(log, 3), [4, 2, 7], at="2030-01-01", context={"surface": "similar"})
    assert dict(zip(ranking.ids[0], ranking.scores["click"][0], strict=True)) == pytest.approx(
        {item["id"]: item["scores"]["click"] for item in found["items"]}
    )


def test_a_request_knows_the_history_up_to_its_time_and_its_context(facta: Facta, place: Path) -> None:
    log = library.Dataset.open(place / "log")
    times = [str(time) for time in library.history_of(log, 3).times or []]
    asked = ("rank", place / "ranking", "--user", 3, "--data", place / "log", "--candidates", 4, "--json")
    scores = [
        facta(*asked, "--at", times[place], "--context", f"surface={surface}").json["items"][0]["scores"]["click"]
        for place, surface in ((2, "similar"), (2, "popular"), (4, "similar"))
    ]
    assert len(set(scores)) == 3
    said = facta(*asked, "--at", times[2], "--context", "surface=wall")
    assert "Found surface=wall in the context of a request; no event of this artifact's data has it" in said.err


def test_a_history_given_on_the_spot_lacks_what_was_said_of_it(facta: Facta, place: Path) -> None:
    given = ("--history", "3,4,99", "--times", "2023-01-01,2023-01-02,2023-01-03", "--at", "2023-01-04")
    said = facta("rank", place / "ranking", *given, "--candidates", "1,2", "--by", "click=1,long_view=0.5")
    assert said.code == 0 and "Left out 1 event" in said.err
    assert "This model reads surface, click, long_view, rating; a --history has only items and times" in said.err
    assert re.search(r"│ 2 │ Item [12], category", said.out)


def test_the_python_of_the_page_on_ranking_runs(place: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "ranking.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    scope: dict[str, object] = {}
    code = code.replace("data/ranking", str(place / "log")).replace("artifacts/gr-ranking", str(place / "ranking"))
    exec(compile(code, "ranking.md", "exec"), scope)
    assert isinstance(scope["ranking"], library.Ranking) and sorted(scope["ranking"].ids[0]) == [1, 2, 3, 4]
    card = (place / "ranking" / "README.md").read_text(encoding="utf-8")
    assert "artifact.rank(history" in card and "artifact.recommend(" not in card


def test_a_report_for_people(facta: Facta, place: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the report draws with the extra `plot`")
    asked = ("evaluate", place / "ranking", place / "fused", "--data", place / "log", "--report", tmp_path / "r.html")
    said = facta(*asked, "--json")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "r.html" in said.err and page.count("data:image/svg+xml;base64,") == 6
    first, _ = said.json["results"]
    assert first["protocol"] in page and f"{first['base_rates']['click']:.4f}<small>of" in page
    assert f"{first['metrics']['NE(click)']['mean']:.4f}" in page and "GAUC against simulator/gr-ranking" in page


def test_what_is_undefined_is_null(facta: Facta, place: Path, tmp_path: Path) -> None:
    """The last event of each person alone: nobody has both outcomes, so no GAUC."""
    last = ("protocol.split=loo-val", "protocol.train_end=null", "protocol.validation_end=null")
    state = [part for change in (*last, *SMALL) for part in ("--set", change)]
    for name in ("ranking", "fused"):
        said = facta("train", f"simulator/gr-{name}", "--data", place / "log", "--out", tmp_path / name, *state)
        assert said.code == 0, said.err
    asked = ("evaluate", tmp_path / "ranking", tmp_path / "fused", "--data", place / "log")
    found = facta(*asked, "--json")
    assert "NaN" not in found.out
    values = {(pair["metric"], pair["field"]): pair for pair in found.json["comparisons"]}
    assert values["GAUC", "click"]["difference"] is None and values["GAUC", "click"]["verdict"] == "undecided"
    first, second = (one["metrics"]["NE(click)"]["mean"] for one in found.json["results"])
    assert values["NE", "click"]["difference"] == pytest.approx(second - first)
    assert all(one["artifact"] for one in found.json["results"])
    assert "GAUC(click) is undefined" in facta(*asked).out


def test_artifacts_are_compared_in_what_all_predict(facta: Facta, place: Path, tmp_path: Path) -> None:
    changes = [part for one in (*SMALL, 'model.feedback.fields=["click"]') for part in ("--set", one)]
    said = facta("train", "simulator/gr-fused", "--data", place / "log", "--out", tmp_path / "click", *changes)
    assert said.code == 0, said.err
    asked = ("evaluate", place / "ranking", tmp_path / "click", "--data", place / "log")
    found = facta(*asked, "--json")
    assert "Shown is click, which all artifacts predict." in found.err
    assert {pair["field"] for pair in found.json["comparisons"]} == {"click"}
    one = facta("evaluate", place / "ranking", place / "fused", "--data", place / "log", "--metric", "AUC(long_view)")
    assert "AUC(long_view) " in one.out and "against" in one.out and "NE(" not in one.out
    wrong = facta("evaluate", place / "ranking", place / "fused", "--data", place / "log", "--metric", "NE(like)")
    assert wrong.code == 1 and "Found --metric NE(like); feedback is compared in one of: NE, LogLoss" in wrong.err


def test_flops_of_an_event_are_those_of_its_tokens(facta: Facta, place: Path) -> None:
    model = library.load(place / "ranking").model
    cost = model.cost(2 * model.window)  # type: ignore[union-attr]
    told = facta("info", place / "ranking", "--json").json["cost"]
    assert told["flops_per_event"] == round(2 * cost.flops_per_token)
    assert told["activation_bytes_per_event"] == round(2 * cost.activation_bytes_per_token)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("rank {ranking} --history 3 --at now", "Give either --candidates or --candidates-file"),
        ("rank {ranking} --history 3 --at now --candidates 1 --candidates-file x", "Give either --candidates or"),
        ("rank {ranking} --history 3 --at now --candidates-file {new}", "cannot be read"),
        ("rank {ranking} --candidates 1 --at now", "Give either --user and --data, or --history"),
        ("rank {ranking} --history 3 --candidates 1", "reads time"),
        ("rank {ranking} --history  --candidates one --at now", "'one'; item ids here are whole numbers"),
        ("rank {ranking} --history  --candidates 1 --at now --by like", "predicts .click, long_view."),
        (
            "rank {ranking} --history  --candidates 1 --at now --by click=a",
            "--by click=a; expected a field, or weights",
        ),
        ("rank {ranking} --history  --candidates 1 --at now --context tab", "--context tab; expected NAME=VALUE"),
        ("rank {ranking} --history  --candidates 1 --at now --context click=1", "'click' among the context"),
        ("recommend {ranking} --history 3 --times 2023-01-01 --at now", "recommends nothing; rank candidates with it"),
    ],
)
def test_a_mistake_is_one_sentence(facta: Facta, place: Path, tmp_path: Path, command: str, sentence: str) -> None:
    said = facta(*command.format(ranking=place / "ranking", new=tmp_path / "new").split(" "))
    assert said.code == 1 and said.out == "" and len(said.err.strip().splitlines()) == 1
    assert re.search(sentence, said.err), said.err


def test_days_and_rows_from_the_command_line(facta: Facta, place: Path, tmp_path: Path) -> None:
    """`--by-day` trains the recipes again, keeps what they said beside the artifacts, and writes every prediction."""
    pytest.importorskip("matplotlib", reason="the report draws with the extra `plot`")
    files = ("--report", tmp_path / "r.html", "--predictions", tmp_path / "p.parquet", "--out", tmp_path / "days")
    asked = ("evaluate", place / "fused", "--data", place / "log", "--by-day", "--days", 2, *files)
    said = facta(*asked, "--json")
    assert said.code == 0, said.err
    (found,) = said.json["results"]
    assert found["protocol"].startswith("feedback/by-day/first=2023-") and found["protocol"].endswith("state=rolling")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "NE by day" in page and "facta evaluate" in page and library.load(place / "fused").fingerprint in page
    table = pl.read_parquet(tmp_path / "p.parquet")
    fields = [*found["base_rates"], *found["values"]]
    assert table.height == found["requests"] * len(fields) and table["time"].dt.date().n_unique() == 2
    again = facta(*asked, "--json")
    assert again.json == said.json and "Trained" not in again.err
    wrong = facta("evaluate", place / "fused", "--data", place / "log", "--lists", tmp_path / "l.parquet")
    assert wrong.code == 1 and "use --predictions" in wrong.err
