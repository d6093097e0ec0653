"""`/`: the page to try and to watch a service, with the files that it loads. None of them comes from elsewhere.

The files are sent as they lie in `static/`: nothing builds them, and gzip is all that happens to them on their way.
Whoever may read none of the service gets them, too: they hold nothing of anybody, and the page asks for a key.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "static"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",  # asked for again, and answered with 304: another version of facta is seen at once
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
}
_TYPES = {
    ".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
}  # fmt: skip


class WebFile(NamedTuple):
    content: bytes
    packed: bytes  # the content by gzip
    kind: str  # its media type
    tag: str  # changes with the content


def web_files(*, keys: bool) -> dict[str, WebFile]:
    """Path below `static/` -> file. The page is told whether keys are needed: a request that is refused to find out
    would stand in the console of the browser as an error."""
    found = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in _TYPES:
            content = path.read_bytes()
            if path.name == "index.html":
                content = content.replace(b'data-keys=""', b'data-keys="needed"' if keys else b'data-keys="none"')
            tag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
            kind = f"{_TYPES[path.suffix]}; charset=utf-8"
            packed = gzip.compress(content, mtime=0)
            found[path.relative_to(FOLDER).as_posix()] = WebFile(content, packed, kind, tag)
    return found
