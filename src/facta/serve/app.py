"""The paths of the service, over FastAPI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import from_json, to_json
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp

from facta.errors import FactaError
from facta.serve.answers import AnswerLog
from facta.serve.bodies import body, documented, parsed
from facta.serve.config import ServeConfig
from facta.serve.front import REQUEST, Front
from facta.serve.front import Request as Known
from facta.serve.guard import Guard
from facta.serve.keys import Keys
from facta.serve.link import Answer
from facta.serve.metrics import Metrics
from facta.serve.models import Models
from facta.serve.page import HEADERS as PAGE_HEADERS
from facta.serve.page import page
from facta.serve.paths import decoded
from facta.serve.problems import RequestError, described_problem, problem, problem_of
from facta.serve.requests import Change, Facts, Merge, Rank, Recommend, Swap
from facta.serve.service import Service
from facta.serve.upkeep import keep_up
from facta.serve.web import HEADERS as WEB_HEADERS
from facta.serve.web import web_files
from facta.store.content import Clock
from facta.store.opening import open_store

_GONE = 499  # for the log: the client went before its answer came; nobody gets it
NEWEST = 100  # events of a person that are shown, when nothing else is said


def create_app(config: ServeConfig) -> ASGIApp:
    """The whole service: what uvicorn runs. Raises ConfigError, ArtifactError and DataError."""
    keys = None if config.keys is None else Keys(Path(config.keys))
    models, metrics = Models(config), Metrics()

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        clock = Clock(max_future=config.limits.max_future * 1000)
        service = Service(config, await asyncio.to_thread(open_store, config.store, clock), models)
        app.state.service = service
        models.start()
        upkeep = asyncio.create_task(keep_up(service))
        yield
        upkeep.cancel()
        await service.close()
        front.lines.write()
        if app.state.answers is not None:
            app.state.answers.close()

    app = FastAPI(
        title="facta", lifespan=living, docs_url=None, redoc_url=None, description=_DESCRIPTION, responses=_PROBLEMS
    )  # fmt: skip
    app.state.metrics = metrics
    app.state.answers = None if config.answers is None else AnswerLog(config.answers, config.answers_days)
    for errors in (FactaError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(errors, _refused)
    for add in (_add_answers, _add_events, _add_people, _add_items, _add_models, _add_health):
        add(app)
    _add_web(app, keys=keys is not None)
    front = Front(Guard(app, keys, config.limits, config.host), metrics, log_users=config.log_users)
    return front


_DESCRIPTION = (
    "Events are posted in the words of the log. Ids are whole numbers or texts; in paths they are percent-encoded. "
    "Errors are problem documents (RFC 9457)."
)
_PROBLEMS: dict[int | str, dict[str, Any]] = {422: described_problem(), "default": described_problem()}


def _add_answers(app: FastAPI) -> None:
    @app.post("/v1/recommend", **documented(Recommend, "The best items for a person"))
    async def recommend(request: Request) -> Response:
        service, known = _service(request), _known(request)
        asked = parsed(Recommend, await body(request, service.config.limits.body), service.words)
        known.user = asked.user_id
        answer = service.recommend(asked, known.id)
        return await _for_who_waits(request, answer) if asked.explain else _answered(request, await answer)

    @app.post("/v1/rank", **documented(Rank, "Candidates by what a person would do with them"))
    async def rank(request: Request) -> Response:
        service, known = _service(request), _known(request)
        asked = parsed(Rank, await body(request, service.config.limits.body), service.words)
        known.user = asked.user_id
        return await _for_who_waits(request, service.rank(asked, known.id))


def _add_events(app: FastAPI) -> None:
    @app.post("/v1/events", **documented(None, "Keep an event, or a list of events: all or none"))
    async def events(request: Request) -> Response:
        service = _service(request)
        posted = await body(request, service.config.limits.body)
        key = request.headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= 200:
            raise RequestError(400, "Found an Idempotency-Key of 0 or more than 200 characters; expected a short text.")
        found = await service.append(posted, key)
        request.app.state.metrics.events += found["accepted"]
        return _json(found)

    @app.patch("/v1/users/{user_id}/events/{event_id}", **documented(None, "Feedback that came late"))
    async def amend(request: Request, user_id: str, event_id: str) -> Response:
        service = _service(request)
        user, posted = await _user(request, user_id), await body(request, service.config.limits.body)
        return _json(await service.amend(user, decoded(event_id), posted))

    @app.delete("/v1/users/{user_id}/events/{event_id}", summary="Take an event back")
    async def remove(request: Request, user_id: str, event_id: str) -> Response:
        return _json(await _service(request).remove(await _user(request, user_id), decoded(event_id)))


def _add_people(app: FastAPI) -> None:
    @app.get("/v1/users", summary="Some of the people of whom something is known")
    async def people(request: Request, k: int = 10) -> Response:
        return _json(await _service(request).some_people(_length(k)))

    @app.get("/v1/users/{user_id}", summary="What is known of a person, with the newest events")
    async def person(request: Request, user_id: str, events: int = NEWEST) -> Response:
        return _json(await _service(request).person(await _user(request, user_id), max(events, 0)))

    @app.put("/v1/users/{user_id}", **documented(Facts, "Facts of a person, in place of those told before"))
    async def tell(request: Request, user_id: str) -> Response:
        service = _service(request)
        told = parsed(Facts, await body(request, service.config.limits.body))
        return _json(await service.tell(await _user(request, user_id), told))

    @app.delete("/v1/users/{user_id}", summary="Forget a person")
    async def forget(request: Request, user_id: str) -> Response:
        return _json(await _service(request).forget(await _user(request, user_id)))

    @app.post("/v1/users/{user_id}/merge", **documented(Merge, "Join a session to the person of the path"))
    async def merge(request: Request, user_id: str) -> Response:
        service = _service(request)
        asked = parsed(Merge, await body(request, service.config.limits.body))
        return _json(await service.merge(await service.user(asked.user_id), await _user(request, user_id)))


def _add_items(app: FastAPI) -> None:
    @app.get("/v1/items/{item_id}/similar", summary="Items that are most like an item")
    async def similar(request: Request, item_id: str, k: int = 10) -> Response:
        return _answered(request, await _service(request).similar(decoded(item_id), _length(k), _known(request).id))

    @app.patch("/v1/items/{item_id}", **documented(Change, "Keep an item out of all lists, or let it in again"))
    async def change(request: Request, item_id: str) -> Response:
        service = _service(request)
        asked = parsed(Change, await body(request, service.config.limits.body))
        return _json(await service.change(decoded(item_id), hidden=asked.hidden))

    @app.get("/v1/items", summary="Items by their titles, or by their ids")
    async def items(
        request: Request, q: str | None = None, id: Annotated[tuple[str, ...], Query()] = (), k: int = 10
    ) -> Response:
        if (q is None) == (not id):
            found = "neither" if q is None else "both"
            raise RequestError(422, f"Found {found} of q and id; expected what was typed, or ids of items.")
        return _answered(request, await _service(request).items(q, id, _length(k), _known(request).id))


def _add_models(app: FastAPI) -> None:
    @app.get("/v1/models", summary="What is served, with its metrics and their protocols")
    async def models(request: Request) -> Response:
        return _json({"models": _service(request).models.about()})

    @app.put("/v1/models/{name}", **documented(Swap, "Another artifact under a name, without a failed request"))
    async def swap(request: Request, name: str) -> Response:
        service = _service(request)
        asked = parsed(Swap, await body(request, service.config.limits.body))
        await service.models.swap(decoded(name), asked.artifact, asked.ranker)
        return _json({"models": service.models.about()})


def _add_web(app: FastAPI, *, keys: bool) -> None:
    files = web_files(keys=keys)

    @app.get("/", include_in_schema=False)
    async def front_page(request: Request) -> Response:
        return sent(request, "index.html")

    @app.get("/static/{name:path}", include_in_schema=False)
    async def static(request: Request, name: str) -> Response:
        return sent(request, name)

    def sent(request: Request, name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        file = files[name]
        headers = {**WEB_HEADERS, "ETag": file.tag}
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(file.content, headers=headers, media_type=file.kind)
        return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=file.kind)


def _add_health(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page(app.openapi()), headers=PAGE_HEADERS)

    @app.get("/health/live", summary="Whether the process answers")
    async def live() -> Response:
        return _json({"live": True})

    @app.get("/health/ready", summary="Whether everything can be asked")
    async def ready(request: Request) -> Response:
        why = await _service(request).why_not_ready()
        return problem(503, " ".join(why), _known(request).id) if why else _json({"ready": True})

    @app.get("/metrics", response_class=PlainTextResponse, summary="Counters in the format of Prometheus")
    async def metrics(request: Request) -> Response:
        service = _service(request)
        links = service.models.links
        counts = await asyncio.gather(*(service.status(link) for link in links.values()))
        starts = {name: link.starts for name, link in links.items()}
        text = request.app.state.metrics.text(dict(zip(links, counts, strict=True)), starts)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def _refused(request: Request, error: Exception) -> Response:
    known = _known(request)
    if isinstance(error, FactaError):
        return problem_of(error, known.id)
    if isinstance(error, HTTPException):
        said = _sentence(request, error.status_code)
        return problem(error.status_code, said, known.id, headers=_allowed(request, error.status_code))
    if isinstance(error, RequestValidationError):
        wrong = error.errors()[0]
        return problem(422, f"Found {wrong.get('input')!r:.80} as {wrong['loc'][-1]}: {wrong['msg']}.", known.id)
    return problem(500, "The service made a mistake; its log says where, under this request_id.", known.id)


def _sentence(request: Request, status: int) -> str:
    if status == 404:
        return "Found no such path; /docs lists those that there are."
    if status == 405:
        return f"Found the method {request.method}, which this path does not have; /docs lists those that there are."
    return "The request was refused."


def _allowed(request: Request, status: int) -> dict[str, str]:
    """The methods that a path has: it is a route of its own for each."""
    if status != 405:
        return {}
    path = request.scope["route"].path
    methods = {one for route in request.app.routes if getattr(route, "path", "") == path for one in route.methods}
    return {"Allow": ", ".join(sorted(methods))}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _known(request: Request) -> Known:
    known: Known = request.scope[REQUEST]
    return known


async def _user(request: Request, part: str) -> int | str:
    """The user of a path, noted for the log."""
    found = _known(request).user = await _service(request).user(decoded(part))
    return found


def _length(k: int) -> int:
    if k < 1:
        raise RequestError(422, f"Found k = {k}; expected a whole number, at least 1.")
    return k


def _json(found: Any) -> Response:
    return Response(to_json(found, inf_nan_mode="null"), media_type="application/json")


async def _for_who_waits(request: Request, answer: Coroutine[Any, Any, Answer]) -> Response:
    """An answer that takes long; it is given up when the client goes."""
    asked, gone = asyncio.create_task(answer), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait([asked, gone], return_when=asyncio.FIRST_COMPLETED)
        return _answered(request, await asked) if asked.done() else Response(status_code=_GONE)
    finally:
        asked.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    """Until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _answered(request: Request, answer: tuple[int, bytes]) -> Response:
    """What an engine said; its refusals become problem documents."""
    status, said = answer
    if status != 200:
        refusal = from_json(said)
        return problem(status, refusal["detail"], _known(request).id, error=refusal["error"])
    answers: AnswerLog | None = request.app.state.answers
    if answers is not None:
        answers.write(said)
    return Response(said, media_type="application/json")
