"""What a service is started with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from facta.config import Config
from facta.errors import ConfigError

DEFAULT = "default"
"""The name of the model that is answered with when none is named."""


class ModelConfig(Config):
    """A model of a service: one process."""

    artifact: str
    ranker: str | None = None  # another artifact that ranks
    share: Annotated[float, Field(ge=0, le=1)] = 0.0  # of the users; those of no other model are the default's


class EngineConfig(Config):
    """What an engine's process is started with."""

    name: str
    artifact: str
    ranker: str | None = None
    store: str
    cache: str = "1GiB"
    stride: PositiveInt | None = None
    waiting: PositiveInt = 1024
    threads: PositiveInt | None = None  # None: one less than there are processors
    popular_half_life: PositiveFloat | None = None  # days; None: popularity is of the training events
    modules: tuple[str, ...] = ()  # with parts of one's own


class Limits(Config):
    """What one client may ask for."""

    body: PositiveInt = 4 << 20  # bytes
    events: PositiveInt = 10_000  # of a batch
    history: PositiveInt = 10_000  # events given with a request
    k: PositiveInt = 1_000
    candidates: PositiveInt = 20_000
    rate: PositiveFloat | None = None  # requests a second of each key; None: any
    seconds: PositiveFloat = 5.0  # that a request may wait for its answer
    waiting: PositiveInt = 1024  # requests that may wait at a time, for each model
    max_future: NonNegativeInt = 300  # seconds that the time of an event may be ahead of the clock


class ServeConfig(Config):
    """What `facta serve` was told."""

    models: Mapping[str, ModelConfig]  # name -> model; `default` is one of them
    store: str = "sqlite:///events.db"
    cache: str = "1GiB"  # of each model
    stride: PositiveInt | None = None
    threads: PositiveInt | None = None
    popular_half_life: PositiveFloat | None = None
    host: str = "127.0.0.1"
    modules: tuple[str, ...] = ()  # with parts of one's own, which an artifact needs
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    keys: str | None = None  # a file of `facta keys new`
    swap_from: str | None = None  # the folder whose artifacts may be swapped in
    limits: Limits = Limits()
    log_users: bool = False
    answers: str | None = None  # a file for what was answered
    answers_days: PositiveInt = 30
    keep_events: PositiveInt | None = None  # of each person, the newest ones; None: all
    keep_days: PositiveFloat | None = None  # events that are older are deleted; None: none are

    @model_validator(mode="after")
    def _fits(self) -> ServeConfig:
        if DEFAULT not in self.models:
            raise ConfigError(f"Found no model '{DEFAULT}' among {', '.join(self.models)}; name the main one so.")
        if sum(one.share for one in self.models.values()) > 1:
            raise ConfigError("Found shares of models that add up to more than 1; make them smaller.")
        if self.store == "memory://":
            raise ConfigError("Found the store memory://; a service has two processes: give it sqlite:///PATH.")
        return self

    def engine(self, name: str, model: ModelConfig) -> EngineConfig:
        """What the process of a model is started with."""
        return EngineConfig(
            name=name, artifact=model.artifact, ranker=model.ranker, store=self.store, cache=self.cache,
            stride=self.stride, waiting=self.limits.waiting, threads=self.threads, modules=self.modules,
            popular_half_life=self.popular_half_life,
        )  # fmt: skip
