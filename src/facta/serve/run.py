"""The HTTP process: `python -m facta.serve CONFIG`, where CONFIG is JSON of `ServeConfig`. `facta serve` becomes it."""

from __future__ import annotations

import logging

import uvicorn

from facta.serve.app import create_app
from facta.serve.config import ServeConfig
from facta.serve.front import JsonLines

IDLE = 75  # seconds that a connection may be idle: more than what balancers wait
DRAIN = 10  # seconds that requests may take after SIGTERM


def run(config: ServeConfig) -> None:
    """Serve until SIGTERM or SIGINT: what has begun is answered, then the engines end and the store is closed.

    Raises ConfigError, ArtifactError and DataError.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    uvicorn.run(
        create_app(config), host=config.host, port=config.port, loop="uvloop", http="httptools", ws="none",
        log_config=None, access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=DRAIN,
    )  # fmt: skip
