"""Progress output of training: a bar on a terminal, a line every few seconds elsewhere, or nothing.

It goes to stderr. Machines read `metrics.jsonl` instead.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TextIO

from facta.training.progress import TrainingResult

if TYPE_CHECKING:
    from rich.progress import Progress

Mode = Literal["bar", "plain", "quiet"]
SMOOTHING = 0.1


class Log:
    """Progress output of a run. `mode` None: a bar if the stream is a terminal, otherwise plain lines."""

    def __init__(self, mode: Mode | None = None, stream: TextIO | None = None, interval: float = 5.0) -> None:
        stream = stream or sys.stderr
        from rich.console import Console  # importing facta does not need rich

        self.mode: Mode = mode or ("bar" if stream.isatty() else "plain")
        self._interval = interval  # seconds between plain lines
        self._console = Console(file=stream, highlight=False, soft_wrap=True, markup=False)
        self._bar: Progress | None = None

    def begin(self, epochs: int) -> None:
        self._epochs, self._fraction_at_begin, self._began = epochs, -1.0, time.perf_counter()
        self._printed, self._rate, self._loss = self._began, 0.0, 0.0
        if self.mode == "bar":
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[status]}"))
            self._bar = Progress(*columns, console=self._console, refresh_per_second=4)
            self._task = self._bar.add_task("epoch 1", total=1.0, status="")
            self._bar.start()

    def step(self, epoch: int, fraction: float, loss: float, events_per_second: float) -> None:
        """`fraction` of all epochs done, this step included; loss and speed are smoothed."""
        if self._fraction_at_begin < 0:  # the first step includes warming up, so it gives no rate
            self._fraction_at_begin, self._began = fraction, time.perf_counter()
        share = SMOOTHING if self._rate else 1.0
        self._rate += (events_per_second - self._rate) * share
        self._loss += (loss - self._loss) * share
        if self.mode == "quiet":
            return
        now = time.perf_counter()
        due = self._bar is not None or now - self._printed >= self._interval
        if not due:
            return
        where = f"epoch {epoch}/{self._epochs}"
        status = f"loss {self._loss:.4f}  {self._rate:,.0f} events/s  {self._left(fraction, now)}"
        if self._bar is not None:
            self._bar.update(self._task, completed=fraction, description=where, status=status)
        else:
            self._printed = now
            self.say(f"{where}  {fraction:4.0%}  {status}")

    def shortened(self, epoch: int, dropped: float) -> None:
        """The share of the epoch's input events that Stochastic Length left out."""
        self.say(f"epoch {epoch}/{self._epochs}  Stochastic Length dropped {dropped:.1%} of the events")

    def validation(self, epoch: int, metric: str, value: float, best: bool, popularity: float | None) -> None:
        mark = "  best" if best else ""
        self.say(f"epoch {epoch}/{self._epochs}  validation {metric} {value:.4f}{_beside(popularity)}{mark}")

    def alarm(self, metric: str, best: float, popularity: float, validations: int, advice: Sequence[str]) -> None:
        """The model does not beat popularity."""
        lines = [f"  {number}. {text}" for number, text in enumerate(advice, 1)]
        self.say(
            f"ALARM: after {validations} validations the model does not beat popularity "
            f"({metric} {best:.4f} against {popularity:.4f}). Look at, in this order:\n" + "\n".join(lines)
        )

    def done(self, result: TrainingResult, metric: str, popularity: float | None) -> None:
        why = "all epochs are done" if result.stopped == "epochs" else "validation has stopped improving"
        kept = ""
        if result.best_epoch is not None:
            kept = f"; kept epoch {result.best_epoch}, {metric} {result.metrics[metric]:.4f}{_beside(popularity)}"
        self.say(f"Trained {result.epochs} epochs, {clock(result.seconds)} in steps: {why}{kept}.")

    def say(self, text: str) -> None:
        if self.mode != "quiet":
            self._console.print(text)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _left(self, fraction: float, now: float) -> str:
        gained = fraction - self._fraction_at_begin
        if gained <= 0:
            return ""
        return f"{clock((1 - fraction) * (now - self._began) / gained)} left"


def _beside(popularity: float | None) -> str:
    return "" if popularity is None else f" (popularity {popularity:.4f})"


def clock(seconds: float) -> str:
    """1:05, or 2:00:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
