"""The report over HTTP: reads a store, changes nothing, and answers the machine it runs on.

    /                    the suites, or the one that is served
    /suite/NAME          its report, as `results.report.page` makes it
    /suite/NAME/data     the data of that page as JSON, with an ETag

NAME is looked up among the store's plans; nothing of a request becomes a path. A request needs a
`Host` that is an address, `localhost` or the name that was bound: a foreign page that lets its own
name point here (DNS rebinding) gets nothing. aiohttp is what Ray's dashboard already brings.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from aiohttp import web

from results import standing
from results.errors import StoreError, TableError
from results.files import listed
from results.place import Place
from results.report import data, pack, page
from results.store import Store

_FOLDERS = ("attempts", "decisions", "plans", "tables")
"""Whatever a report shows is a new file in one of these, or a run that began or ended."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Server": "peftgrid",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Made(NamedTuple):
    """A suite's page and data, as of one state of the store."""

    html: str
    json: str
    etag: str


class Source:
    """Makes pages from a store, again only where something in it changed."""

    def __init__(self, store: Store, only: str | None, metric: str, said: Mapping[str, str]):
        self.only = only
        self._store, self._metric, self._said = store, metric, said
        self._lock = threading.Lock()
        self._made: dict[str, tuple[str, Made]] = {}

    @property
    def name(self) -> str:
        """The store's name."""
        return self._store.path.name

    def suites(self) -> list[str]:
        """The suites that are served."""
        known = self._store.plans()
        return known if self.only is None else [name for name in known if name == self.only]

    def get(self, suite: str) -> Made:
        """The suite's page and data; one request at a time makes them."""
        with self._lock:
            state = self._state()
            if suite not in self._made or self._made[suite][0] != state:
                self._made[suite] = state, self._make(suite)
            return self._made[suite][1]

    def _make(self, suite: str) -> Made:
        from results import generations

        newest = next(iter(generations.numbers(self._store.path)), 0)
        said = {**self._said, "generation": str(newest)}
        report = data.read(self._store, suite, metric=self._metric, provenance=said)
        held = pack.to_json(pack.pack(report))
        return Made(
            html=page.html(report, poll=f"/suite/{suite}/data"),
            json=held,
            etag=f'"{hashlib.sha256(held.encode()).hexdigest()[:32]}"',
        )

    def _state(self) -> str:
        state = hashlib.sha256(repr(sorted(standing.running(self._store))).encode())
        for folder in _FOLDERS:
            place = self._store.path / folder
            names = sorted(listed(place)) if place.exists() else []
            state.update(repr(names).encode())
        return state.hexdigest()


def application(source: Source, bound: str) -> web.Application:
    """The routes behind their guards; `bound` is the host that the server was told to bind."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_own(request.headers.get("Host", ""), bound):
            return web.Response(status=403, text="This server answers its own names alone.\n")
        if request.method != "GET":
            return web.Response(
                status=405, text="Only GET is answered.\n", headers={"Allow": "GET"}
            )
        try:
            return await handler(request)
        except (StoreError, TableError) as error:
            return web.Response(status=503, text=f"{error}\n")

    async def root(_: web.Request) -> web.Response:
        if source.only is not None:
            raise web.HTTPFound(f"/suite/{source.only}")
        suites = await asyncio.to_thread(source.suites)
        return _html(page.index(source.name, suites), asks=False)

    async def report(request: web.Request) -> web.Response:
        return _html((await _made(request)).html, asks=True)

    async def numbers(request: web.Request) -> web.Response:
        made = await _made(request)
        given = request.headers.get("If-None-Match", "")
        if made.etag in [tag.strip().removeprefix("W/") for tag in given.split(",")]:
            return web.Response(status=304, headers={"ETag": made.etag})
        body = made.json.encode()
        return web.Response(body=body, content_type="application/json", headers={"ETag": made.etag})

    async def _made(request: web.Request) -> Made:
        suite = request.match_info["suite"]
        if suite not in await asyncio.to_thread(source.suites):
            raise web.HTTPNotFound(text="No such suite is served here.\n")
        return await asyncio.to_thread(source.get, suite)

    async def harden(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_HEADERS)
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'")

    app = web.Application(middlewares=[guard])
    app.on_response_prepare.append(harden)
    app.router.add_get("/", root, allow_head=False)
    app.router.add_get("/suite/{suite}", report, allow_head=False)
    app.router.add_get("/suite/{suite}/data", numbers, allow_head=False)
    return app


def is_own(host: str, bound: str) -> bool:
    """Whether the `Host` of a request is an address, localhost or the bound name; any port."""
    name = host.rpartition("]")[0].removeprefix("[") if "]" in host else host.partition(":")[0]
    if name and name.lower() in ("localhost", bound.lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def serve(source: Source, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Answer until SIGINT or SIGTERM; `ready` is told the address. OSError where it is taken."""
    asyncio.run(serve_until_told(source, host, port, ready))


async def serve_until_told(
    source: Source, host: str, port: int, ready: Callable[[str], None]
) -> None:
    """What `serve` runs."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    runner = web.AppRunner(application(source, host), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0][1]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{bound}/")
        await ended.wait()
    finally:
        await runner.cleanup()


def open_source(path: Place, suite: str | None, metric: str, said: Mapping[str, str]) -> Source:
    """The store in `path` to be served; TableError where it has no plan of that suite."""
    store = Store.open(path)
    if suite is not None and suite not in store.plans():
        known = ", ".join(store.plans()) or "none has a plan yet"
        raise TableError(f"suite: {suite!r} given, allowed: {known} (store {path})")
    return Source(store, suite, metric, said)


def _html(text: str, *, asks: bool) -> web.Response:
    policy = f"{page.policy(asks=asks)}; frame-ancestors 'none'"
    headers = {"Content-Security-Policy": policy}
    return web.Response(text=text, content_type="text/html", headers=headers)
