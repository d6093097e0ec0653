"""What a service does by itself, once an hour: old events go, and engines let go of people whom the store has
forgotten."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial

from facta.errors import FactaError
from facta.serve.service import Service
from facta.serve.wire import Verb

_EVERY_SECONDS = 3600.0
_FIRST_SECONDS = 60.0  # after the start, so that it begins without this work
_DAY_MS = 86_400_000
_LOG = logging.getLogger(__name__)


async def keep_up(service: Service) -> None:
    """Until it is cancelled. What the store or an engine refuses is tried again an hour later."""
    await asyncio.sleep(_FIRST_SECONDS)
    while True:
        try:
            await once(service)
        except FactaError as error:
            _LOG.warning("Upkeep was put off by an hour: %s", error)
        await asyncio.sleep(_EVERY_SECONDS)


async def once(service: Service) -> None:
    """Delete events beyond `--keep-events` and `--keep-days`; then engines forget whom nothing is known of, here or by
    another replica."""
    newest, days = service.config.keep_events, service.config.keep_days
    if newest is not None or days is not None:
        since = None if days is None else time.time_ns() // 1_000_000 - round(days * _DAY_MS)
        gone = await service.stored(partial(service.store.retain, newest=newest, since=since))
        _LOG.info("Retention deleted %d events and forgot %d people", gone.events, len(gone.forgotten))
    await service.tell_engines(Verb.SWEEP, {})
