"""Origins of the files of a public dataset: a zip or folder on the web, a wheel from pip, or the user's own folder.

Every file is held in memory until its checksum is verified, so an interrupted or altered download leaves nothing
behind.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.request import Request, urlopen

from facta.errors import DownloadError

Progress = Callable[[str, int, int | None], None]
"""Called with (label, bytes so far, bytes in all or None) during a download."""

Files = dict[str, bytes]
"""File name without its folder -> content."""

PATIENCE_SECONDS = 10.0  # without an answer; without a network the next origin is tried soon
PIP_SECONDS = 120.0
LARGEST_BYTES = 1 << 28  # above every archive here, so that a wrong address cannot fill the memory
_CHUNK_BYTES = 1 << 16


class Origin(Protocol):
    """One place that has the files `wanted`."""

    @property
    def label(self) -> str: ...

    def files(self, wanted: Mapping[str, str], progress: Progress) -> Files:
        """Content of each file of `wanted` (name -> checksum), verified; raises DownloadError with the reason."""
        ...


@dataclass(frozen=True)
class Archive:
    """A zip at `url` that holds the files in some folder."""

    url: str

    @property
    def label(self) -> str:
        return self.url

    def files(self, wanted: Mapping[str, str], progress: Progress) -> Files:
        return verified(unpack(fetch(self.url, progress), wanted), wanted)


@dataclass(frozen=True)
class WebFolder:
    """An address that has every file under its name."""

    url: str

    @property
    def label(self) -> str:
        return self.url

    def files(self, wanted: Mapping[str, str], progress: Progress) -> Files:
        return verified({name: fetch(f"{self.url}/{name}", progress) for name in wanted}, wanted)


@dataclass(frozen=True)
class Wheel:
    """Files inside a Python package, fetched by pip from whatever index the machine uses; nothing is installed."""

    requirement: str

    @property
    def label(self) -> str:
        return f"the wheel {self.requirement} (pip)"

    def files(self, wanted: Mapping[str, str], progress: Progress) -> Files:
        progress(self.label, 0, None)
        with tempfile.TemporaryDirectory(prefix="facta-") as folder:
            _pip_download(self.requirement, folder)
            wheels = list(Path(folder).glob("*.whl"))
            if not wheels:
                raise DownloadError("pip delivered no wheel")
            content = wheels[0].read_bytes()
        progress(self.label, len(content), len(content))
        return verified(unpack(content, wanted), wanted)


@dataclass(frozen=True)
class Place:
    """The user's own files: a folder (files plain or gzipped, in it or below it), an archive, or one file."""

    path: Path

    @property
    def label(self) -> str:
        return f"'{self.path}'"

    def files(self, wanted: Mapping[str, str], progress: Progress) -> Files:
        if not self.path.exists():
            raise DownloadError(f"{self.label} does not exist")
        try:
            return verified(self._read(wanted), wanted)
        except OSError as error:
            raise DownloadError(f"{self.label} cannot be read ({error.strerror or error})") from error

    def _read(self, wanted: Mapping[str, str]) -> Files:
        if self.path.is_dir():
            return {name: content for name in wanted if (content := self._find(name)) is not None}
        if zipfile.is_zipfile(self.path):
            return unpack(self.path.read_bytes(), wanted)
        name = self.path.name.removesuffix(".gz")
        return {name: _plain(self.path)} if name in wanted else {}

    def _find(self, name: str) -> bytes | None:
        for pattern in (name, f"{name}.gz", f"*/{name}", f"*/{name}.gz"):
            for path in sorted(self.path.glob(pattern)):
                return _plain(path)
        return None


def fetch(url: str, progress: Progress) -> bytes:
    """The content at `url`, whole; raises DownloadError with the reason."""
    try:
        with urlopen(Request(url, headers={"User-Agent": "facta"}), timeout=PATIENCE_SECONDS) as answer:
            length = answer.headers.get("Content-Length")
            total = int(length) if length else None
            content = bytearray()
            while chunk := answer.read(_CHUNK_BYTES):
                content += chunk
                progress(url, len(content), total)
                if len(content) > LARGEST_BYTES:
                    raise DownloadError(f"the answer is longer than {LARGEST_BYTES:,} bytes")
    except (OSError, ValueError) as error:  # URLError, HTTPError and timeouts are OSErrors
        raise DownloadError(str(getattr(error, "reason", error)) or type(error).__name__) from error
    if total is not None and len(content) < total:
        raise DownloadError(f"the download broke off after {len(content):,} of {total:,} bytes")
    return bytes(content)


def unpack(archive: bytes, wanted: Mapping[str, str]) -> Files:
    """The files of `wanted` that a zip holds, in whatever folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            members = {PurePosixPath(name).name: name for name in opened.namelist()}
            return {name: opened.read(members[name]) for name in wanted if name in members}
    except (zipfile.BadZipFile, EOFError) as error:
        raise DownloadError(f"the archive is torn ({error})") from error


def verified(files: Files, wanted: Mapping[str, str]) -> Files:
    """The same files. Raises DownloadError if one is absent or has another checksum than the published one."""
    for name, expected in wanted.items():
        if name not in files:
            raise DownloadError(f"{name} is not there")
        found = checksum(files[name], expected.partition(":")[0])
        if found != expected:
            raise DownloadError(f"{name} has the wrong checksum ({found}, expected {expected})")
    return files


def checksum(content: bytes, kind: str) -> str:
    """`md5:…`, or `git:…`, git's id of the content: for some files only that is published."""
    if kind == "git":
        header = f"blob {len(content)}\0".encode()
        return f"git:{hashlib.sha1(header + content, usedforsecurity=False).hexdigest()}"
    return f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"


def _plain(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile) as error:
        raise DownloadError(f"{path.name} is torn ({error})") from error


def _pip_download(requirement: str, folder: str) -> None:
    options = ["--no-deps", "--only-binary", ":all:", "--quiet", "--retries", "1", "--timeout", f"{PATIENCE_SECONDS:g}"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, requirement]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DownloadError(f"pip did not finish ({error})") from error
    if run.returncode:
        reasons = [line for line in run.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise DownloadError(f"pip could not fetch it ({reasons[-1].strip()})")
