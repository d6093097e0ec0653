"""MovieLens as published by GroupLens, read from each form in which it is distributed.

Harper and Konstan, "The MovieLens Datasets: History and Context" (ACM TiiS 2015). The licence forbids passing the data
on: facta ships none of it. Events: user_id, item_id, timestamp (unix seconds), rating 1..5 as ordinal feedback. Items:
title, year and genres (`A|B`) of every movie, rated or not.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import polars as pl

from facta.data.dataset.schema import SchemaConfig
from facta.data.public.origins import Files
from facta.data.public.tables import Tables

GENRES_100K = (
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_EVENT = ("user_id", "item_id", "rating", "timestamp")

SCHEMA = SchemaConfig(
    fields={"rating": {"kind": "ordinal", "positive": ">= 4"}}, items={"genres": "multi", "year": "numeric"}
)
"""Four and five stars count as liked."""


def published_100k(files: Files) -> Tables:
    """u.data and u.item of the publisher's ml-100k.zip."""
    lines = [line.split("|") for line in files["u.item"].decode("latin-1").splitlines()]
    genres = [[name for name, flag in zip(GENRES_100K, line[5:], strict=True) if flag == "1"] for line in lines]
    movies = _movies([line[0] for line in lines], [line[1] for line in lines], genres)
    return Tables(_events(files["u.data"]), movies)


def recbole_100k(files: Files) -> Tables:
    """ml-100k.inter and ml-100k.item as RecBole writes them: title and year in two columns, otherwise the same rows."""
    _, _, events = files["ml-100k.inter"].partition(b"\n")
    lines = [line.split("\t") for line in files["ml-100k.item"].decode().splitlines()[1:]]
    # The one film without title and year became "unkonwn"; every other title is cut at its last pair of brackets.
    titles = ["unknown" if title == "unkonwn" else f"{title} ({year})" for _, title, year, _ in lines]
    movies = _movies([line[0] for line in lines], titles, [line[3].split(" ") for line in lines])
    return Tables(_events(events), movies)


def published_1m(files: Files) -> Tables:
    """ratings.dat and movies.dat of the publisher's ml-1m.zip."""
    return Tables(_events(files["ratings.dat"].replace(b"::", b"\t")), _movies_dat(files["movies.dat"]))


def reconstructed_1m(files: Files) -> Tables:
    """ratings.csv: the publisher's rows in the publisher's order; some of the times are reconstructed."""
    columns = {"user_id": "user_id", "movie_id": "item_id", "rating": "rating", "timestamp": "timestamp"}
    frame = pl.read_csv(io.BytesIO(files["ratings.csv"]), columns=list(columns))
    return Tables(_typed(frame.rename(columns)), _movies_dat(files["movies.dat"]))


def _events(content: bytes) -> pl.DataFrame:
    return _typed(pl.read_csv(io.BytesIO(content), separator="\t", has_header=False, new_columns=list(_EVENT)))


def _typed(frame: pl.DataFrame) -> pl.DataFrame:
    rating = pl.col("rating").cast(pl.Int8)
    return frame.select(pl.col("user_id", "item_id", "timestamp").cast(pl.Int64), rating)


def _movies_dat(content: bytes) -> pl.DataFrame:
    lines = [line.split("::") for line in content.decode("latin-1").splitlines()]
    return _movies([line[0] for line in lines], [line[1] for line in lines], [line[2].split("|") for line in lines])


def _movies(ids: Sequence[str], titles: Sequence[str], genres: Sequence[Sequence[str]]) -> pl.DataFrame:
    title = pl.Series("title", titles).str.strip_chars()
    year = title.str.extract_all(r"\(\d{4}\)").list.last().str.slice(1, 4).cast(pl.Int16).alias("year")
    kinds = pl.Series("genres", ["|".join(names) for names in genres])
    return pl.DataFrame([pl.Series("item_id", ids).cast(pl.Int64), title, year, kinds])
