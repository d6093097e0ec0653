"""The page at `/`, clicked through in a browser against a real service, at the width of a phone and of a desk.

Ids of items begin at 2^53, so that two neighbours are one number for a browser that does not take care.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from facta.serve.keys import new_key
from facta.serve.requests import Recommend
from tests.serving import Server, config_of, saved, serving, shop

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if BROWSER is None:
    pytest.skip("No Chromium is installed here, so nobody can click through the page.", allow_module_level=True)
api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install facta[dev].")

FIRST = 2**53
DESK, PHONE = (1200, 900), (390, 844)
EXPLAINS = "explain" in Recommend.model_fields


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("page")
    saved(shop(place / "log", first=FIRST), place / "artifact")
    return place


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(config_of(folder), folder) as running:
        running.post("/v1/events", [event(user, FIRST + user % 5) for user in (2**60 + 1, 3, 4)])
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


def event(user: int, item: int) -> dict[str, Any]:
    return {"user_id": user, "item_id": item, "timestamp": "2026-01-01T12:00"}


class Tab:
    """A tab, with all that went wrong in it."""

    def __init__(self, page: Any, home: str) -> None:
        self.page, self.wrong, self.sent = page, list[str](), list[Any]()
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        page.on("console", self._said)
        page.on("request", lambda request: self._asked(request, home))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"console: {message.text}")

    def _asked(self, request: Any, home: str) -> None:
        self.sent.append(request)
        if not request.url.startswith(f"{home}/"):
            self.wrong.append(f"asked elsewhere: {request.url}")

    def list(self) -> list[str]:
        """Ids as they are shown."""
        found: list[str] = self.page.locator(".list li").evaluate_all("all => all.map(one => one.dataset.id)")
        return found

    def after(self, click: Any) -> dict[str, Any]:
        """What the service answered to the list that a click asks for; by then it is painted."""
        with self.page.expect_response(lambda one: one.url.endswith("/v1/recommend")) as answer:
            click()
        said: dict[str, Any] = answer.value.json()  # Python reads whole numbers of any size
        self.page.wait_for_function(
            "ids => ids.join() === [...document.querySelectorAll('.list li')].map(one => one.dataset.id).join()",
            arg=[str(one["id"]) for one in said["items"]],
        )
        return said

    def bodies(self, path: str) -> list[dict[str, Any]]:
        """What was posted to a path."""
        return [json.loads(one.post_data) for one in self.sent if one.url.endswith(path) and one.post_data]

    def accessible(self) -> None:
        """axe finds nothing, and nothing is wider than the screen."""
        self.page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run()")["violations"]
        assert not found, [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self.page.viewport_size["width"]


@contextmanager
def tab(browser: Any, server: Server, size: tuple[int, int], **more: Any) -> Iterator[Tab]:
    home = str(server.http.base_url)
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **more)
    context.set_default_timeout(5000)
    made = Tab(context.new_page(), home)
    made.page.goto(home)
    made.page.wait_for_selector(".list li, .key")
    yield made
    made.page.unroute_all(behavior="ignoreErrors")
    context.close()


def explained(made: Tab, because: list[dict[str, Any]] | None) -> None:
    """Let the service explain its lists, or not know of it: without its own words, where it does not know of it yet."""

    def answer(route: Any) -> None:
        asked = json.loads(route.request.post_data)
        if not asked.pop("explain", False):
            route.continue_()
        elif because is None:
            route.fulfill(status=422, json={"detail": "Unknown key 'explain' for Recommend."})
        else:
            said = route.fetch(post_data=asked).json()
            items = [{**one, "because": because} for one in said["items"]]
            route.fulfill(json={**said, "items": items})

    made.page.route("**/v1/recommend", answer)


@pytest.mark.parametrize(("size", "colours"), [(DESK, "light"), (PHONE, "dark")], ids=["desk", "phone"])
def test_the_list_follows_each_click(server: Server, browser: Any, size: tuple[int, int], colours: str) -> None:
    with tab(browser, server, size, color_scheme=colours, reduced_motion="reduce") as made:
        page = made.page
        if not EXPLAINS:
            explained(made, [])
        assert "one choice" in page.locator("section", has_text="1. Who?").inner_text()
        popular = made.after(page.get_by_role("button", name="Invent somebody").click)
        assert popular["source"] == "popularity" and "for nothing is known" in page.content()

        page.get_by_label("Search titles").fill("film c")
        found = page.locator(".found button")
        api.expect(found).to_have_text(["+ The c film"])
        first = made.after(found.first.click)
        assert first["source"] == "model" and str(FIRST + 2) not in made.list()
        second = made.after(page.locator(".list .choose").nth(2).click)
        assert [one["id"] for one in second["items"]] != [one["id"] for one in first["items"]]

        press = page.get_by_role("button", name="click of The c film")
        third = made.after(press.click)
        api.expect(press).to_have_attribute("aria-pressed", "true")
        scores = [{one["id"]: one["score"] for one in answer["items"]} for answer in (second, third)]
        assert scores[0] != scores[1], "the feedback changes what is expected"

        title = page.locator(".list .title").nth(1)
        with page.expect_response(lambda one: "explain" in (one.request.post_data or "")):
            title.click()
        api.expect(page.locator(".why table").first.locator("th")).to_have_text(["score", "click"])
        made.accessible()
        title.click()
        assert page.locator(".why").count() == 0

        slider = page.get_by_role("slider")
        later = made.after(lambda: slider.fill("7"))
        assert later["at"][:10] > third["at"][:10] and page.locator("output").inner_text() == "in 1 week"
        assert page.get_by_text(later["model"]["fingerprint"]).count() >= 1
        made.after(lambda: slider.fill("0"))

        page.get_by_role("button", name="Forget me").click()
        forgotten = made.after(page.get_by_role("button", name="Forget", exact=True).click)
        assert forgotten["source"] == "popularity" and page.locator(".chosen li").count() == 0

        page.get_by_role("link", name="Status").click()
        api.expect(page.locator(".charts canvas")).to_have_count(7)
        made.accessible()
        assert not made.wrong


def test_the_status_shows_what_the_service_counts(server: Server, browser: Any) -> None:
    with tab(browser, server, DESK) as made:
        made.page.get_by_role("link", name="Status").click()
        api.expect(made.page.locator(".charts canvas")).to_have_count(7)
        for _ in range(20):
            assert server.post("/v1/recommend", {"user_id": 3}).status_code == 200
        answered = made.page.locator("figure", has_text="Requests a second").locator(".line0 b")
        api.expect(answered).not_to_have_text("0")
        api.expect(made.page.locator("figure", has_text="Latency").locator(".line1 b")).not_to_have_text("–")
        shown = made.page.locator(".totals div", has_text="events accepted").locator("dd").inner_text()
        counted = [line for line in server.http.get("/metrics").text.splitlines() if line.startswith("facta_events")]
        assert shown == counted[0].split()[1] and not made.wrong


def test_what_the_charts_show_is_what_happened_between_two_looks(server: Server, browser: Any) -> None:
    """Two seconds: 40 lists of which 20 took at most 10 ms and 20 from 10 to 50 ms, 6 refusals, 8 steps, 10 cached."""

    def look(times: int) -> str:
        route = 'route="POST /v1/recommend"'
        lines = [
            f'facta_requests_total{{{route},status="200"}} {5 + 40 * times}',
            f'facta_requests_total{{{route},status="422"}} {1 + 6 * times}',
            f'facta_requests_total{{route="GET /metrics",status="200"}} {100 * times}',
            f'facta_request_seconds_bucket{{{route},le="0.01"}} {5 + 20 * times}',
            f'facta_request_seconds_bucket{{{route},le="0.05"}} {5 + 40 * times}',
            f'facta_request_seconds_bucket{{{route},le="+Inf"}} {5 + 40 * times}',
            f'facta_request_seconds_bucket{{route="GET /metrics",le="+Inf"}} {100 * times}',
            f'facta_engine_waiting{{model="a"}} {times}',
            f'facta_engine_waiting{{model="b"}} {times}',
            f'facta_engine_steps_total{{model="a"}} {2 + 8 * times}',
            f'facta_engine_answered_total{{model="a"}} {3 + 40 * times}',
            f'facta_engine_answered_from_cache_total{{model="a"}} {1 + 10 * times}',
            f'facta_engine_cache_bytes{{model="a"}} {7 * times}',
            f"facta_events_total {9 + 3 * times}",
        ]
        return "# HELP what it is\n" + "\n".join(lines) + "\n"

    with tab(browser, server, DESK) as made:
        found = made.page.evaluate(
            """async ([then, now]) => {
              const { between, sample } = await import('/static/counters.js');
              return between(sample(then, 1000), sample(now, 3000));
            }""",
            [look(0), look(1)],
        )
    assert found == {
        "answered": 20, "refused": 3, "middle": 10, "late": pytest.approx(49.2), "waiting": 2, "step": 5, "hits": 25,
        "bytes": 7, "events": 1.5,
    }  # fmt: skip


def test_ids_beyond_what_a_double_holds_survive(server: Server, browser: Any) -> None:
    user = 2**60 + 1
    with tab(browser, server, DESK) as made:
        page = made.page
        page.get_by_label("Any id").fill(str(user))
        made.after(page.get_by_role("button", name="Ask about them").click)
        assert page.locator(".chosen .line > span").all_inner_texts() == ["The c film"]
        shown = made.list()
        assert len({*shown}) == len(shown) > 1, "neighbours are two items"
        wanted = made.page.locator(f".list li[data-id='{FIRST + 3}']")
        made.after(wanted.get_by_role("button", name="Choose The d film").click)
        kept = server.http.get(f"/v1/users/{user}").json()["events"]
        assert [one["item_id"] for one in kept] == [FIRST + 2, FIRST + 3] and not made.wrong


def test_what_moved_a_score_is_shown_where_the_service_says_it(server: Server, browser: Any) -> None:
    with tab(browser, server, DESK) as made:
        because = [{"event_id": "a", "item_id": FIRST, "title": "The a film", "change": -0.25}]
        explained(made, because)
        made.page.locator(".list .title").first.click()
        api.expect(made.page.locator(".because th")).to_have_text(["The a film"])
        assert "-0.25" in made.page.locator(".because").inner_text() and not made.wrong
    with tab(browser, server, DESK) as made:
        explained(made, None)
        with made.page.expect_response("**/v1/recommend"):
            made.page.locator(".list .title").first.click()
        with made.page.expect_response("**/v1/rank"):
            made.page.locator(".list .title").nth(1).click()
        api.expect(made.page.locator(".why th")).to_have_count(2)
        assert made.page.locator(".because, .error").count() == 0
        assert [one.get("explain") for one in made.bodies("/v1/recommend")].count(True) == 1, "asked once"


def test_the_keyboard_is_enough(server: Server, browser: Any) -> None:
    with tab(browser, server, DESK) as made:
        page = made.page
        made.after(page.get_by_role("button", name="Invent somebody").click)
        page.get_by_label("Search titles").focus()
        page.keyboard.type("film d")
        page.wait_for_selector(".found button")
        made.after(lambda: page.keyboard.press("Enter"))
        page.locator(".list .choose").first.focus()
        made.after(lambda: page.keyboard.press("Enter"))
        assert page.evaluate("document.activeElement.className") == "choose", "the keyboard stays in the list"
        assert page.evaluate("document.getAnimations().length") > 0, "what stays in the list glides"
        assert not made.wrong


def test_a_key_is_asked_for_and_kept_in_the_tab_alone(folder: Path, browser: Any) -> None:
    token = new_key(folder / "keys.jsonl", "admin")
    config = config_of(folder, keys=str(folder / "keys.jsonl"), store=f"sqlite:///{folder}/locked.db")
    with serving(config, folder, ready=False) as locked, tab(browser, locked, PHONE) as made:
        page = made.page
        made.accessible()
        assert not made.wrong and not [one for one in made.sent if "/v1/" in one.url], "nothing is asked without a key"
        page.get_by_label("needs a key").fill("wrong")
        page.keyboard.press("Enter")
        api.expect(page.get_by_role("alert")).to_contain_text("not known here")
        page.get_by_label("needs a key").fill(token)
        page.keyboard.press("Enter")
        page.wait_for_selector("#engineer")
        assert page.evaluate("sessionStorage['facta-key']") == token
        assert page.evaluate("localStorage.length + document.cookie.length") == 0
        assert token not in page.content() and "$FACTA_KEY" in page.locator("pre").first.inner_text()
        page.reload()
        page.wait_for_selector("#engineer")
