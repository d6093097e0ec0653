"""How fast the service's page follows a click, and how much it loads.

    python -m benchmarks.speed.page              measure and record
    python -m benchmarks.speed.page --look       measure and print only

`facta serve` of a model of MovieLens 1M's size (benchmarks/speed/live.py; it is untrained, which changes no time) and
Chromium at 1,200 px, both on this machine. A click posts an event, asks for the next list, and waits for it to be
painted: from the event of the click, by the browser's own clock, to the end of the second frame after the list
changed. Loaded is what goes over the wire, nothing of it cached, until both views are drawn: head and body of every
answer, as Chromium counts them. The files of the page are sent by gzip; what they are without it is said beside it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright
from tests.serving import Server, serving

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from benchmarks.speed.live import ITEMS, artifact
from facta.artifact.contents import ArtifactData
from facta.artifact.files import save
from facta.serve.config import ServeConfig
from facta.serve.web import web_files

COMMAND = module("page")
FIGURES: dict[str, Figure] = {
    "page_click_ms": Figure("<= 200", "ms", COMMAND, "the service's page: from a click to the repainted list, p95"),
    "page_kilobytes": Figure("<= 150", "kB", COMMAND, "all that it loads for both views, files by gzip"),
}
PEOPLE, EVENTS, CLICKS, WARM = 20, 200, 60, 5

# Resolves when the list has changed after a click and two frames have passed: the change is on the screen by then.
CLICK = """place => new Promise(resolve => {
  const list = document.querySelector('.list'), button = list.querySelectorAll('.choose')[place];
  const shown = () => [...list.children].map(one => one.dataset.id).join();
  const before = shown();
  let began;
  button.addEventListener('click', () => { began = performance.now(); }, { capture: true, once: true });
  new MutationObserver((_, watching) => {
    if (shown() === before) return;
    watching.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - began)));
  }).observe(list, { childList: true });
  button.click();
})"""


def fill(server: Server) -> None:
    """Histories of some people."""
    random = np.random.default_rng(0)
    for user in range(PEOPLE):
        items = random.integers(0, ITEMS, EVENTS).tolist()
        lines = [
            {"user_id": user, "item_id": item, "timestamp": 1_600_000_000 + 60 * n} for n, item in enumerate(items)
        ]
        assert server.post("/v1/events", lines).status_code == 200


def clicks(page: Page, home: str) -> list[float]:
    """Milliseconds from each click to its list on the screen, of several people in turn."""
    page.goto(home)
    page.wait_for_selector(".list li")
    taken = []
    for n in range(WARM + CLICKS):
        if n % 10 == 0:
            with page.expect_response("**/v1/recommend"):
                page.locator(".row button").nth(n // 10 % 6).click()
            page.wait_for_timeout(500)
        taken.append(float(page.evaluate(CLICK, n % 10)))
    return taken[WARM:]


def kilobytes(page: Page, home: str) -> tuple[float, int]:
    """What both views load, and in how many answers."""
    sizes: list[int] = []
    counting = page.context.new_cdp_session(page)
    counting.send("Network.enable")
    counting.on("Network.loadingFinished", lambda one: sizes.append(int(one["encodedDataLength"])))
    page.goto(home)
    page.wait_for_selector(".list li")
    page.get_by_role("link", name="Status").click()
    page.wait_for_selector(".charts canvas")
    return sum(sizes) / 1000, len(sizes)


def measured(home: str) -> tuple[list[float], float, int]:
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        size: Any = {"width": 1200, "height": 900}
        loaded, answers = kilobytes(browser.new_page(viewport=size), home)
        taken = clicks(browser.new_page(viewport=size), home)
        browser.close()
    return taken, loaded, answers


def main() -> None:
    look = looking(__doc__)
    with tempfile.TemporaryDirectory(prefix="facta-page-") as place:
        folder, made = Path(place), artifact()
        save(ArtifactData(made.config, made.schema, made.catalogue, made.model), folder / "artifact")
        models: Any = {"default": {"artifact": str(folder / "artifact")}}
        config = ServeConfig(models=models, port=0, store=f"sqlite:///{folder}/events.db")
        with serving(config, folder) as server:
            fill(server)
            taken, loaded, answers = measured(str(server.http.base_url))
    late = float(np.quantile(taken, 0.95))
    said = f"{len(taken)} clicks, median {np.median(taken):.0f} ms, most {max(taken):.0f} ms"
    print(f"page_click_ms {late:.0f}: {said}")
    plain = sum(len(file.content) for file in web_files(keys=False).values()) / 1000
    told = f"{answers} answers with their heads, files by gzip; the files alone without it: {plain:.0f} kB"
    print(f"page_kilobytes {loaded:.1f}: {told}")
    if not look:
        record("page_click_ms", late, raw=taken, note=said)
        record("page_kilobytes", loaded, note=told)


if __name__ == "__main__":
    main()
