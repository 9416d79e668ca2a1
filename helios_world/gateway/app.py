"""The HTTP side: the page, and who may open a WebSocket: Host, Origin, token and number are checked here."""

from __future__ import annotations

import asyncio
import errno
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from importlib.resources import files
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMsgType, web

from helios_world.bridge.client import open_socket
from helios_world.errors import ProtocolError, UserError
from helios_world.gateway import wire
from helios_world.gateway.connection import Connection

TOKEN_SECONDS = 5.0  # that a browser has to say its token
WRONG_TOKEN, FULL = 4401, 4429  # close codes
_STRANGERS = 32  # connections that have not said their token yet
_HEARTBEAT = 10.0  # seconds between WebSocket pings; half of it is what a browser may take to answer
_TYPES = {
    "index.html": "text/html",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(("world.js", "stream.js", "player.js", "controls.js", "hud.js", "wire.js"), "text/javascript"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class Gateway:
    """Serves the page, and relays each browser to a session of its own on the server.

    Args:
        address: of a running `helios-world serve`.
        token: what a browser must say first.
        origins: besides the page's own, those of pages that may connect, as in "https://example.org".
        max_browsers: that play at the same time.
        any_host: serve whatever name the page is asked for by; else loopback names and those of `origins`.
    Raises:
        UserError: a malformed address or origin, an empty token, no browsers.
    """

    def __init__(
        self,
        address: str,
        token: str,
        *,
        origins: Iterable[str] = (),
        max_browsers: int = 8,
        any_host: bool = False,
    ):
        if not token:
            raise UserError("the token is empty: give some text that is hard to guess")
        if max_browsers < 1:
            raise UserError(f"max_browsers is {max_browsers}: must be at least 1")
        open_socket(address).close(0)
        self._address, self._token, self._max_browsers, self._any_host = address, token, max_browsers, any_host
        self._origins = frozenset(_check_origin(origin) for origin in origins)
        self._strangers: set[web.WebSocketResponse] = set()
        self._browsers: set[web.WebSocketResponse] = set()

    def app(self) -> web.Application:
        """As aiohttp runs it."""
        app = web.Application(middlewares=[self._guard])
        page = files("helios_world.gateway") / "web"
        for name, kind in _TYPES.items():
            body = (page / name).read_bytes()
            for path in (f"/{name}", "/") if name == "index.html" else (f"/{name}",):
                app.router.add_get(path, _file(body, kind))
        app.router.add_get("/ws", self._play)
        app.on_shutdown.append(self._close)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable) -> web.StreamResponse:
        """Refuses what a page of somebody else's could ask for in the name of the player."""
        if not self._any_host and not _is_loopback(request.url.host) and not self._lists_host(request.host):
            raise web.HTTPForbidden(text="this gateway does not go by that name: see --origin")
        origin = request.headers.get("Origin")
        own = (f"http://{request.host}", f"https://{request.host}")
        if origin is not None and origin not in own and origin not in self._origins:
            raise web.HTTPForbidden(text="pages of that origin may not connect: see --origin")
        return await handler(request)

    def _lists_host(self, host: str) -> bool:
        return any(urlsplit(origin).netloc == host for origin in self._origins)

    async def _play(self, request: web.Request) -> web.WebSocketResponse:
        if len(self._strangers) >= _STRANGERS:
            raise web.HTTPServiceUnavailable(text="too many connections have not said their token yet")
        browser = web.WebSocketResponse(compress=False, max_msg_size=wire.MAX_INBOUND, heartbeat=_HEARTBEAT)
        await browser.prepare(request)
        self._strangers.add(browser)
        try:
            welcome = await self._knows_token(browser)
        finally:
            self._strangers.discard(browser)
        if not welcome:
            await browser.close(code=WRONG_TOKEN, message=b"wrong token")
        elif len(self._browsers) >= self._max_browsers:
            await browser.close(code=FULL, message=b"all places are taken")
        else:
            self._browsers.add(browser)
            try:
                await Connection(browser, self._address).run()
            finally:
                self._browsers.discard(browser)
                await browser.close()
        return browser

    async def _knows_token(self, browser: web.WebSocketResponse) -> bool:
        try:
            received = await browser.receive(TOKEN_SECONDS)
            if received.type != WSMsgType.BINARY:
                return False
            token = wire.unpack_token(received.data)
            return hmac.compare_digest(token.encode(errors="replace"), self._token.encode())
        except (TimeoutError, ProtocolError):
            return False

    async def _close(self, app: web.Application) -> None:
        for browser in [*self._strangers, *self._browsers]:
            await browser.close(code=WSCloseCode.GOING_AWAY, message=b"the gateway ends")


async def serve_page(gateway: Gateway, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Serves until cancelled; `ready` is told the port. UserError if that cannot be listened on."""
    runner = web.AppRunner(gateway.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            hint = "choose another port, or 0 for any free one" if taken else error.strerror
            raise UserError(f"cannot listen on {host}:{port}: {hint}") from None
        ready(runner.addresses[0][1])
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def check_host(host: str, *, insecure: bool) -> str:
    """`host`, or UserError if others than this machine could connect to it and that was not asked for."""
    if not insecure and not _is_loopback(host):
        raise UserError(f"host is {host!r}: must be loopback, as 127.0.0.1, or say --insecure")
    return host


def _check_origin(origin: str) -> str:
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query or parts.fragment:
        raise UserError(f"origin is {origin!r}: must be as https://example.org or http://192.168.0.2:8080")
    return origin


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _file(body: bytes, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=_HEADERS)

    return answer
