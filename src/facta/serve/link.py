"""An engine's process as the HTTP process sees it: started, asked, and started again when it dies."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Any, cast

from pydantic_core import from_json, to_json

from facta.errors import ArtifactError, BusyError
from facta.serve import wire
from facta.serve.config import EngineConfig
from facta.serve.known_items import KnownItems
from facta.serve.wire import Frame, Frames, Verb

Answer = tuple[int, bytes]
"""Status of HTTP and body of JSON."""

_PATIENCE = (0.1, 0.5, 2.0, 5.0)  # seconds before the next start, by how many in a row failed


_LOOK = 0.25  # seconds between looks for requests that wait too long


class _Line(asyncio.Protocol):
    """The HTTP process's end. What is sent in one turn of the loop is written at once."""

    def __init__(self, link: EngineLink) -> None:
        self._link, self._frames = link, Frames()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            self._link.answered(frame)

    def connection_lost(self, error: Exception | None) -> None:
        self._link.lost()

    def send(self, frame: Frame) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._write)
        self._out.append(frame.packed())

    def _write(self) -> None:
        data, self._out = b"".join(self._out), []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._write()
            self._transport.close()


class EngineLink:
    """One engine. `about`: what it says of its model; None as long as it cannot be asked."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.about: Mapping[str, Any] | None = None
        self.known: KnownItems | None = None  # stays when the engine dies: its artifact does not change
        self.failure = ""  # why the last start failed
        self.starts = 0
        self._asked: dict[int, tuple[asyncio.Future[Answer], float]] = {}  # with the moment when it is too late
        self._numbers = count(1)
        self._line: _Line | None = None
        self._lost = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._fails = 0  # starts in a row without a word
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    def start(self) -> None:
        """Start the process, and again whenever it ends."""
        self._tasks = [asyncio.create_task(self._keep()), asyncio.create_task(self._watch())]

    async def first_word(self) -> None:
        """Wait until it may be asked. Raises ArtifactError with the reason why its first start failed."""
        while self.about is None and not self.failure:
            await asyncio.sleep(0.02)
        if self.about is None:
            raise ArtifactError(self.failure)

    @property
    def waiting(self) -> int:
        """Requests without an answer."""
        return len(self._asked)

    @property
    def process(self) -> int | None:
        """The id of the process, as long as there is one."""
        return self._process.pid if self._process is not None else None

    async def ask(self, verb: Verb, request: Mapping[str, Any], seconds: float) -> Answer:
        """Raises BusyError where it cannot be asked, where too many wait, and where no answer comes in time."""
        if self.about is None or self._line is None:
            raise BusyError(f"The model '{self.config.name}' is being started; ask again a little later.")
        if len(self._asked) >= self.config.waiting:
            raise BusyError(f"Found {len(self._asked):,} requests that wait; expected fewer: ask again a little later.")
        number = next(self._numbers)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer, time.monotonic() + seconds
        self._line.send(Frame(number, verb, to_json(request)))
        try:
            return await answer
        except asyncio.CancelledError:
            if self._line is not None:
                self._line.send(Frame(number, Verb.CANCEL, b""))
            raise
        finally:
            self._asked.pop(number, None)

    def answered(self, frame: Frame) -> None:
        """A frame has come."""
        if frame.number:
            answer, _ = self._asked.pop(frame.number, (None, 0.0))
            if answer is not None and not answer.done():
                answer.set_result((frame.code, frame.body))
            return
        said = from_json(frame.body)
        if frame.code == wire.FAILED:
            self.failure = said["detail"]
            return
        self.known = KnownItems(said.pop("known"))
        self.about, self.failure, self.starts = said, "", self.starts + 1
        self._fails = 0

    def lost(self) -> None:
        """The process has gone: nobody who asked waits for it any longer."""
        self.about, self._line = None, None
        error = BusyError(f"The model '{self.config.name}' ended before it had answered; ask again a little later.")
        self._fail(error, float("inf"))
        self._lost.set()

    def _fail(self, error: BusyError, until: float) -> None:
        """Answer those whose time is up by then."""
        for answer, late in [*self._asked.values()]:
            if late <= until and not answer.done():
                answer.set_exception(error)

    async def _watch(self) -> None:
        """One look for all requests: a timer for each costs a twentieth of it. The engine itself drops what is late."""
        while True:
            await asyncio.sleep(_LOOK)
            error = BusyError("No answer came within the time that a request may take; ask again.")
            self._fail(error, time.monotonic())

    async def close(self) -> None:
        """End the process, after what it was asked."""
        self._closing = True
        until = time.monotonic() + 5
        while self._asked and time.monotonic() < until:
            await asyncio.sleep(0.01)
        began = self.about is not None  # one that is being started has nothing to end
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            try:
                async with asyncio.timeout(5 if began else 0):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _keep(self) -> None:
        while not self._closing:
            await self._run()
            if self._ends():
                return
            self.failure = self.failure or f"The process of the model '{self.config.name}' ended while it was started."
            await asyncio.sleep(_PATIENCE[min(self._fails, len(_PATIENCE) - 1)])
            self._fails += 1

    def _ends(self) -> bool:
        return self._closing

    async def _run(self) -> None:
        """One life of the process."""
        ours, theirs = wire.pair()
        self._lost = asyncio.Event()
        line = _Line(self)
        try:
            command = (sys.executable, "-m", "facta.serve.engine_process")
            arguments = (self.config.model_dump_json(), str(theirs.fileno()))
            self._process = await asyncio.create_subprocess_exec(
                *command, *arguments, pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL
            )
        finally:
            theirs.close()
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: line, sock=ours)
            self._line = line
            await self._lost.wait()
            await self._process.wait()
        finally:
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    self._process.kill()
            self._process = None
