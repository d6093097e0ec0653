"""The models of a service: which of them answers whom, and how one takes the place of another."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

from facta.errors import ArtifactError
from facta.serve.config import DEFAULT, ModelConfig, ServeConfig
from facta.serve.link import EngineLink
from facta.serve.problems import RequestError
from facta.store.content import key
from facta.store.posted import Words, read_schema
from facta.store.protocol import UserId


class Models:
    """Name -> engine."""

    def __init__(self, config: ServeConfig) -> None:
        """Starts nothing. Raises ArtifactError and DataError."""
        self._config = config
        self._shares = {name: one.share for name, one in sorted(config.models.items()) if name != DEFAULT}
        self.words = words_of(config.models[DEFAULT].artifact)
        self.links = {name: EngineLink(config.engine(name, one)) for name, one in config.models.items()}
        self._swapping = asyncio.Lock()

    def start(self) -> None:
        for link in self.links.values():
            link.start()

    async def close(self) -> None:
        await asyncio.gather(*(link.close() for link in self.links.values()))

    def of(self, name: str | None, user: UserId | None) -> EngineLink:
        """The engine that answers somebody. Raises RequestError for a name that there is not."""
        if name is None:
            name = self._chosen(user) if user is not None and any(self._shares.values()) else DEFAULT
        if name not in self.links:
            raise RequestError(404, f"Found the model '{name}'; there are {', '.join(sorted(self.links))}.")
        return self.links[name]

    def _chosen(self, user: UserId) -> str:
        """The same one for a user each time, whatever is served how often."""
        digest = hashlib.blake2b(key(user, "user").encode(), digest_size=8, key=b"facta split").digest()
        place = int.from_bytes(digest) / 2**64
        for name, share in self._shares.items():
            if place < share:
                return name
            place -= share
        return DEFAULT

    def why_not_ready(self) -> list[str]:
        """A sentence for each model that cannot be asked."""
        asleep = [(name, link) for name, link in self.links.items() if link.about is None]
        return [link.failure or f"The model '{name}' is being started." for name, link in asleep]

    def about(self) -> list[dict[str, Any]]:
        """What is served."""
        return [
            {"name": name, "share": self._shares.get(name), "ready": link.about is not None, **(link.about or {})}
            for name, link in self.links.items()
        ]

    async def swap(self, name: str, artifact: str, ranker: str | None) -> None:
        """Start another artifact beside the one that answers, let it answer, and end the old one when it has answered
        what it was asked. Raises RequestError, and ArtifactError where it cannot be loaded: the old one serves on."""
        self.of(name, None)
        made = ModelConfig(
            artifact=self._place(artifact), ranker=None if ranker is None else self._place(ranker),
            share=self._shares.get(name, 0.0),
        )  # fmt: skip
        async with self._swapping:
            words = words_of(made.artifact)
            link = EngineLink(self._config.engine(name, made))
            link.start()
            try:
                await link.first_word()
            except BaseException:
                await link.close()
                raise
            old, self.links[name] = self.links[name], link
            if name == DEFAULT:
                self.words = words
        await old.close()

    def _place(self, folder: str) -> str:
        """A folder below the one that was said at the start, and no other."""
        if self._config.swap_from is None:
            raise RequestError(403, "This service swaps no models; start it with --models DIR.")
        if folder in ("", ".", "..") or Path(folder).name != folder:
            raise RequestError(422, f"Found the artifact '{folder}'; expected the name of a folder below --models.")
        return str(Path(self._config.swap_from) / folder)


def words_of(artifact: str) -> Words:
    """The words of an artifact's log. What ids an older one has is read from its table of items. Raises ArtifactError
    and DataError."""
    place = Path(artifact)
    if not (place / "checksums.json").is_file():
        raise ArtifactError(
            f"Found no artifact at '{artifact}'; expected the directory that `facta train --out` wrote."
        )
    words = Words(read_schema(place))
    if words.ids["item"] is None:
        from pyarrow.parquet import read_schema as columns  # 20 MB, for artifacts that do not say it themselves

        text = "string" in str(columns(place / "items.parquet").field("item_id").type)
        words.ids["item"] = "text" if text else "number"
    return words
