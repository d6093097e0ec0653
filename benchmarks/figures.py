"""Every published figure of facta beside its bar: `make figures` prints the latest value of each.

Each measurement declares its figures beside its code; they are collected here. `record.py` holds the log.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.figure import HERE, ROOMS, Figure, module
from benchmarks.quality.ml1m import ml1m_table
from benchmarks.record import RESULTS, latest, seeds_of, spreads

BEGIN, END = "<!-- figures: written by `make figures ARGS=--write` -->", "<!-- end of figures -->"


def collected() -> dict[str, Figure]:
    """The figures of all measurements, room by room."""
    found: dict[str, Figure] = {}
    for room in ROOMS:
        for path in sorted((HERE / room).glob("*.py")):
            if "\nFIGURES" in path.read_text(encoding="utf-8"):  # others need packages that are not installed here
                found |= import_module(f"benchmarks.{room}.{path.stem}").FIGURES
    return found


FIGURES = collected()


def met(bar: str, value: float, lines: Mapping[str, Mapping[str, Any]]) -> bool | None:
    """Whether `value` satisfies `bar`; None when there is no bar, or the figure that it names was not measured."""
    if not bar:
        return None
    sign, operand = bar.split()
    if operand in FIGURES:
        if operand not in lines:
            return None
        limit = float(lines[operand]["value"])
    else:
        limit = float(operand)
    return {"<=": value <= limit, "<": value < limit, ">=": value >= limit, ">": value > limit}[sign]


def table(lines: Mapping[str, Mapping[str, Any]], figures: Mapping[str, Figure] = FIGURES) -> str:
    """A Markdown table of all figures; bars are today's, so that an old line cannot hide behind an old bar."""
    rows = ["| figure | value | ± | bar | met | what | command | commit, date |", "|---|---|---|---|---|---|---|---|"]
    for name, figure in figures.items():
        line = lines.get(name)
        if line is None:
            cells = [name, "not measured", "", figure.bar, "", figure.what, f"`{figure.command}`", ""]
        else:
            answer = {True: "yes", False: "**no**", None: "–"}[met(figure.bar, line["value"], lines)]
            where = f"{line['commit'][:8]}, {line['date'][:10]}"
            value = f"{line['value']:.4g} {figure.unit}"
            cells = [
                name,
                value,
                f"{line['spread']:.2g}" if spreads(line) else "",
                figure.bar,
                answer,
                ", ".join(filter(None, (figure.what, seeds_of(line)))),
                f"`{figure.command}`",
                where,
            ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def tables(lines: Mapping[str, Mapping[str, Any]]) -> str:
    """What stands on the results page: every figure in one of two tables."""
    arms = {name for name, figure in FIGURES.items() if figure.command == module("ml1m") and not figure.bar}
    return f"{table(lines, {name: FIGURES[name] for name in FIGURES if name not in arms})}\n\n{ml1m_table(lines)}"


def write(text: str, page: Path = RESULTS) -> None:
    """Replace what stands between the two markers of the results page."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise RuntimeError(f"{page} lacks the markers '{BEGIN}' and '{END}'.")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def commands(figures: Iterable[Figure] = FIGURES.values()) -> list[str]:
    """The measuring commands, each once."""
    return list(dict.fromkeys(figure.command for figure in figures))


def _plain(lines: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, figure in FIGURES.items():
        line = lines.get(name)
        if line is None:
            rows.append(f"{name:<43} {'not measured':>16}   {figure.bar:<30} {figure.command}")
            continue
        answer = {True: "met", False: "NOT MET", None: "–"}[met(figure.bar, line["value"], lines)]
        value = f"{line['value']:.4g} {figure.unit}"
        rows.append(
            f"{name:<43} {value:>16}   {figure.bar:<30} {answer:<8} ± {line['spread']:.2g}, {line['commit'][:8]}"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the latest value of every figure beside its bar.")
    parser.add_argument("--write", action="store_true", help="renew the table in docs/results.md")
    lines = latest()
    if parser.parse_args().write:
        write(tables(lines))
    print(_plain(lines))


if __name__ == "__main__":
    main()
