"""Damaged ids: digits lost in a spreadsheet, control characters, a header among events."""

from __future__ import annotations

import polars as pl

from facta.data.log.text_files import excerpt
from facta.errors import DataError, counted

_SCIENTIFIC = r"^\s*-?[0-9]([.,][0-9]+[eE]\+?[0-9]{1,3}|[eE]\+[0-9]{1,3})\s*$"  # 7.1E+11 and 7E+11; 7E11 is an id
_CONTROL = r"[\x00-\x08\x0e-\x1f\x7f]"
_WHOLE = r"^\s*-?[0-9]+(\.0)?\s*$"
_NEARLY_ALL = 0.9


def refuse_odd_ids(ids: pl.Series, what: str) -> None:
    """Raise DataError for damaged text ids; `ids` [n] as they were read."""
    if ids.dtype != pl.String:
        return
    said = f"Column '{ids.name}' has"
    odd = ids.filter(ids.str.contains(_SCIENTIFIC))
    if len(odd):
        raise DataError(
            f"{said} {what} ids such as {odd[0].strip()}, as spreadsheets write long numbers: digits are lost, and "
            f"several {what}s became one; export the ids as text or whole numbers."
        )
    odd = ids.filter(ids == ids.name)
    if len(odd):
        raise DataError(
            f"{said} its own name as {what} id in {counted(len(odd), 'event')}: a header is among the events, as "
            "in joined files; remove these lines."
        )


def odd_ids(ids: pl.Series, column: str, what: str) -> list[str]:
    """Notes on suspicious text ids [n]."""
    if ids.dtype != pl.String:
        return []
    distinct = ids.drop_nulls().unique()
    notes = []
    numbers = distinct.str.contains(_WHOLE)
    others = distinct.filter(~numbers)
    if len(others) and float(numbers.mean() or 0.0) >= _NEARLY_ALL:  # type: ignore[arg-type]
        notes.append(
            f"Column '{column}' has whole numbers and {counted(len(others), 'other id')}, such as "
            f"'{excerpt(others.sort()[0])}', so all {what} ids are kept as text."
        )
    odd = distinct.filter(distinct.str.contains(_CONTROL))
    if len(odd):
        notes.append(
            f"Column '{column}' has {counted(len(odd), f'{what} id')} with a control character, such as "
            f"'{excerpt(odd.sort()[0])}', as damaged files have; they were kept as they are."
        )
    bare = distinct.str.strip_chars()
    if bare.n_unique() < len(distinct):
        odd = distinct.filter(bare != distinct).sort()[0]
        notes.append(
            f"Column '{column}' has {counted(len(distinct) - bare.n_unique(), f'{what} id')} that differ from another "
            f"in spaces alone, such as '{excerpt(odd)}'; they count as different {what}s."
        )
    return notes
