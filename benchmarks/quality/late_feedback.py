"""late_feedback_ne_cart: feedback that comes late teaches nothing before it is known; which form of a log loses less.

    python -m benchmarks.quality.late_feedback [RECIPE …]     the figure, of own-log/gr-ranking; others are printed
    python -m benchmarks.quality.late_feedback forms          the comparison of forms (decision 010), printed

**The leak.** 1,500 people with 24 events each. `cart` is a coin of .3 that nothing can predict; who carts buys 70
minutes later, which is after the next event. A model that is shown purchases in their own events knows every cart of
the log: NE(cart) is .11 then. Right is 1.

**The forms.** One event in seven leads to a purchase 70 minutes later: always after the next event ("dense": events
come every 20 to 60 minutes), or mostly before it ("sparse": every 60 to 180 minutes, a fifth after 20 to 60). Who has
bought within the last four hours carts with .55, else with .15. `cart` is predicted, of the same events, by models of
five logs; the best prediction from all that is known ("floor") stands beside them:

    none      no purchases at all
    field     a field with a time: a purchase is shown in its own event if it was known at the next one
    lines     a line for each action: a purchase is an event of its own, at its own time
    both      lines, and the field with its time at the first line
    leaking   purchases without their time: what no model may know
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import facta
from benchmarks.figure import Figure, module
from benchmarks.record import ROOT, committed, record
from facta.eval.feedback_metrics import prediction_metrics

FIGURES: dict[str, Figure] = {
    "late_feedback_ne_cart": Figure(
        ">= 0.98",
        "NE",
        module("late_feedback"),
        "own-log/gr-ranking, a log whose carts are coins and whose purchases tell them 70 minutes later; right is 1",
    ),
}

MINUTE = 60_000
START = 1_700_000_000_000
DELAY = 70 * MINUTE
SCHEMA: Mapping[str, Any] = {"cart": "feedback", "buy": {"time": "bought_at"}}
LINES: Mapping[str, Any] = {"action": "context", "cart": {"undefined": "action = 'buy'"}}
SMALL = ("model.width=32", "model.encoder.layers=2", "model.encoder.heads=2", "model.window=32", "training.epochs=5")
FORMS = ("none", "field", "lines", "both", "leaking")


def events(people: int, count: int, *, sparse: bool = False, days: int = 30, seed: int = 0) -> pl.DataFrame:
    """[people · count] events: user, item, time, and the same of every column that a log is made of later."""
    rng = np.random.default_rng(seed)
    gaps = rng.uniform(60, 180, (people, count)) if sparse else rng.uniform(20, 60, (people, count))
    if sparse:
        gaps = np.where(rng.random((people, count)) < 0.2, rng.uniform(20, 60, (people, count)), gaps)
    start = rng.uniform(0, days * 24 * 60, (people, 1))
    time = START + ((start + gaps.cumsum(axis=1)) * MINUTE).astype(np.int64)
    user = np.repeat(np.arange(people), count)
    return pl.DataFrame({"user_id": user, "item_id": rng.integers(0, 300, people * count), "timestamp": time.ravel()})


def coin(people: int, count: int, seed: int = 0) -> pl.DataFrame:
    """The world of the leak."""
    cart = np.random.default_rng(seed + 1).random(people * count) < 0.3
    return events(people, count, seed=seed).with_columns(
        cart=pl.Series(cart).cast(pl.Int8),
        buy=pl.Series(cart).cast(pl.Int8),
        bought_at=pl.when(pl.Series(cart)).then(pl.col("timestamp") + DELAY),
    )


def after_purchases(people: int, count: int, *, sparse: bool, seed: int = 0) -> pl.DataFrame:
    """The world of the forms, with the probability of each cart (`chance`)."""
    rng = np.random.default_rng(seed + 2)
    log = events(people, count, sparse=sparse, seed=seed)
    time, buy = log["timestamp"].to_numpy().reshape(people, count), rng.random((people, count)) < 1 / 7
    since = time[:, :, None] - (time + DELAY)[:, None, :]  # of every event, since every purchase of its person
    recent = (buy[:, None, :] & (since > 0) & (since < 4 * 60 * MINUTE)).any(axis=2)
    chance = np.where(recent, 0.55, 0.15).ravel()
    return log.with_columns(
        cart=pl.Series(rng.random(len(log)) < chance).cast(pl.Int8),
        buy=pl.Series(buy.ravel()).cast(pl.Int8),
        bought_at=pl.when(pl.Series(buy.ravel())).then(pl.col("timestamp") + DELAY),
        chance=pl.Series(chance),
    )


def floor(log: pl.DataFrame, test_from: int) -> float:
    """NE of the true probabilities on the test events."""
    test = log.filter(pl.col("timestamp") >= test_from)
    p, y = test["chance"].to_numpy(), test["cart"].to_numpy()
    return prediction_metrics(p, y == 1, test["user_id"].to_numpy())["NE"]


def lines(log: pl.DataFrame) -> pl.DataFrame:
    """A line for each action."""
    views = log.with_columns(action=pl.lit("view"))
    bought = log.filter(pl.col("buy") == 1).with_columns(
        timestamp="bought_at", bought_at=None, buy=None, action=pl.lit("buy")
    )
    return pl.concat([views, bought.select(views.columns)], how="vertical_relaxed")


def form(name: str, log: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, Any]]:
    """A log and its schema."""
    match name:
        case "none":
            return log, {"cart": "feedback"}
        case "field":
            return log, dict(SCHEMA)
        case "lines":
            return lines(log), dict(LINES)
        case "both":
            return lines(log), {**LINES, "buy": {"time": "bought_at", "undefined": "action = 'buy'"}}
        case _:
            return log, {"cart": "feedback", "buy": "feedback"}


def trained(
    log: pl.DataFrame, fields: Mapping[str, Any], recipe: str, folder: Path, *changes: str
) -> tuple[facta.Dataset, facta.Predictions]:
    """What a user gets: prepare with a schema, train, evaluate."""
    items = pl.DataFrame({"item_id": range(300), "kind": [str(item % 10) for item in range(300)]})
    dataset = facta.prepare(
        log, folder / "data", items=items, fields=fields, item_fields={"kind": "categorical"}, overwrite=True
    )
    artifact = facta.train(dataset, facta.find_recipe(recipe, changes), folder / "artifact", overwrite=True)
    return dataset, facta.predict(artifact, dataset)


def leak(recipe: str, folder: Path, people: int = 1500, count: int = 24, *changes: str) -> tuple[float, str]:
    """(NE of cart, what was seen)."""
    log = coin(people, count)
    dataset, found = trained(log, SCHEMA, recipe, folder, *changes)
    share = next(field.late for field in dataset.manifest.fields if field.name == "buy")
    low, high = found.intervals["NE(cart)"].low, found.intervals["NE(cart)"].high
    said = f"NE(cart) [{low:.4f}, {high:.4f}], AUC(cart) {found.means['AUC(cart)']:.4f}, NE(buy) "
    said += f"{found.means['NE(buy)']:.4f}, {len(found.user):,} test events, {share:.1%} of the purchases late"
    return found.means["NE(cart)"], said


def forms(
    recipe: str,
    folder: Path,
    *changes: str,
    people: int = 1500,
    count: int = 24,
    worlds: tuple[bool, ...] = (False, True),
) -> pl.DataFrame:
    """NE(cart) of each form in both worlds, or in one."""
    rows = []
    for sparse in worlds:
        world = after_purchases(people, count, sparse=sparse)
        log, cuts = world.drop("chance"), [int(world["timestamp"].quantile(share) or 0) for share in (0.8, 0.9)]
        names = ("protocol.train_end", "protocol.validation_end")
        protocol = [f"{name}={np.datetime64(cut, 'ms')}" for name, cut in zip(names, cuts, strict=True)]
        learned = "model.fields" if recipe.endswith("rates") else "model.feedback.fields"
        own = [f'{learned}=["cart"]', "training.metric=NE(cart)"]
        least = floor(world, cuts[1])
        for name in FORMS:
            dataset, found = trained(*form(name, log), recipe, folder, *protocol, *own, *changes)
            late = next((one.late for one in dataset.manifest.fields if one.name == "buy" and one.late), None)
            (cart,) = found.y  # where there are lines for purchases, its condition is part of its name
            view = found.only(found.y[cart] >= 0)
            mean, bounds = view.means[f"NE({cart})"], view.intervals[f"NE({cart})"]
            row = {"gaps": "sparse" if sparse else "dense", "form": name, "late": late, "events": len(view.user)}
            rows.append({**row, "NE(cart)": mean, "low": bounds.low, "high": bounds.high, "floor": least})
            print(rows[-1], flush=True)
    return pl.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="*", default=["own-log/gr-ranking"], help="recipes, or: forms [RECIPE]")
    asked = parser.parse_args().what
    folder = ROOT / "runs" / "late-feedback"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if asked[0] == "forms":
        recipe = (asked[1:] or ["own-log/gr-ranking"])[0]
        print(forms(recipe, folder, *(SMALL if "/gr-" in recipe else ())))
        return
    for recipe in asked:
        if recipe == "own-log/gr-ranking":
            committed()
        value, said = leak(recipe, folder / recipe.replace("/", "-"))
        print(f"{recipe}: NE(cart) {value:.4f}; {said}", flush=True)
        if recipe == "own-log/gr-ranking":
            record("late_feedback_ne_cart", value, note=said)


if __name__ == "__main__":
    main()
