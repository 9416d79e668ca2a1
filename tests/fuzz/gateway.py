"""Target: whatever a browser says, it gets messages or is sent away, and a browser beside it plays on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import aiohttp

from helios_world.bridge import protocol
from helios_world.bridge.server import WorldServer
from helios_world.engine import WorldEngine
from helios_world.errors import ProtocolError
from helios_world.gateway import wire
from helios_world.gateway.app import Gateway, serve_page
from helios_world.gateway.relay import Relay
from tests.fuzz.decoder import assert_sendable
from tests.fuzz.records import Record, split
from tests.fuzz.seeds import BINARY, SERVER, TEXT, TICKET, TOKEN, model

SEATS = 4
SERVED_WITHIN = 2.0  # seconds that a step beside the fuzzed browser may take
_UNANSWERED = 65  # requests that may wait in a relay: a browser's, and one of its own
_live: Live | None = None


def one(data: bytes) -> None:
    """The same records through the functions without a socket, then over a WebSocket."""
    global _live
    records = split(data)
    relay = Conversation()
    for record in records:
        relay.hear(record)
    spoken = [record for record in records if record.flags & 3 in (BINARY, TEXT)]
    if spoken:
        _live = _live or Live()
        _live.run(spoken)


class Conversation:
    """A relay without sockets between the records and nobody."""

    def __init__(self):
        self.now, self.relay, self.numbers = 0.0, Relay(), 0
        self.relay.connected(self.now)

    def hear(self, record: Record) -> None:
        with contextlib.suppress(ProtocolError):
            assert type(wire.unpack_token(record.data)) is str
        kind = record.flags & 3
        try:
            message = wire.unpack(record.data)
        except ProtocolError:
            message = None
        if message is not None:
            assert wire.unpack(wire.pack(message)) == message
            (self.relay.server_said if kind == SERVER else self.relay.browser_said)(message, self.now)
        elif kind not in (BINARY, TEXT, SERVER):
            self.now += (record.data or b"\1")[0] / 8
            self.relay.watch(self.now)
        self._deliver()
        if self.relay.is_lost:
            self.relay.connected(self.now)
            self._deliver()

    def _deliver(self) -> None:
        """Takes out what the relay has to say, all of which must be messages."""
        assert len(self.relay._waiting) <= _UNANSWERED, "requests pile up"
        while self.relay.to_browser:
            message = self.relay.to_browser.popleft()
            if message is not wire.LOST:
                assert wire.unpack(wire.pack(message)) == message
        while self.relay.to_server:
            message = self.relay.to_server.popleft()
            assert_sendable(message)
            if isinstance(message, protocol.Request):
                assert message.request > self.numbers, "numbers of requests rise"
                self.numbers = message.request


class Live:
    """A gateway and its server, kept from input to input as they are in life."""

    def __init__(self):
        self.server = WorldServer(WorldEngine(model()), max_sessions=SEATS)
        threading.Thread(target=self.server.serve, args=(lambda: False,), daemon=True).start()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._failed)
        self.failures: list[str] = []
        self.ticket, self.request, self.index = TICKET, 0, 0
        self.loop.run_until_complete(self._open())

    def run(self, records: list[Record]) -> None:
        """A new browser says `records`; then the other one must still be played with."""
        self.loop.run_until_complete(asyncio.wait_for(self._batch(records), 30))
        assert not self.failures, self.failures
        assert len(self.server._seats) <= SEATS and len(self.gateway._browsers) <= 2, "browsers pile up"
        assert len(self.gateway._strangers) == 0, "strangers pile up"

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict) -> None:
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    async def _open(self) -> None:
        ready: asyncio.Future[int] = self.loop.create_future()
        self.gateway = Gateway(self.server.address, TOKEN)
        self.serving = self.loop.create_task(serve_page(self.gateway, "127.0.0.1", 0, ready.set_result))
        self.url = f"http://127.0.0.1:{await ready}/ws"
        self.session = aiohttp.ClientSession()
        self.good = await self._connect()
        await self.good.send_bytes(wire.pack_token(TOKEN))
        await self.good.send_bytes(wire.pack(protocol.Hello(protocol.VERSION, "good", "", ("raw",))))
        await self._answer(protocol.Welcome)
        await self.good.send_bytes(wire.pack(protocol.Reset(1, None, 3)))
        await self._answer(protocol.Frames)
        self.request = 1

    async def _connect(self) -> aiohttp.ClientWebSocketResponse:
        return await self.session.ws_connect(self.url, max_msg_size=0)

    async def _batch(self, records: list[Record]) -> None:
        browser = await self._connect()
        listening = self.loop.create_task(self._listen(browser))
        try:
            for record in records:
                await self._say(browser, record)
            await browser.send_bytes(wire.pack(protocol.Ping(2.5)))
        except (ConnectionError, aiohttp.ClientError):  # sent away meanwhile
            pass
        await asyncio.wait_for(listening, SERVED_WITHIN + 8)
        await browser.close()
        await self._step()

    async def _say(self, browser: aiohttp.ClientWebSocketResponse, record: Record) -> None:
        data = record.data.replace(TICKET.encode(), self.ticket.encode())
        if record.flags & 3 == TEXT:
            await browser.send_str(data.decode("utf-8", "replace"))
        else:
            await browser.send_bytes(data)

    async def _listen(self, browser: aiohttp.ClientWebSocketResponse) -> None:
        """Reads messages until the browser is sent away or its last ping is answered."""
        async for received in browser:
            assert received.type == aiohttp.WSMsgType.BINARY, received
            if received.data == wire.pack(wire.LOST):
                continue
            message = wire.unpack(received.data)
            if isinstance(message, protocol.Welcome | protocol.Done) and message.session:
                self.ticket = message.session
            if message == protocol.Pong(2.5):
                return

    async def _step(self) -> None:
        self.request += 1
        self.index += 1
        began = time.monotonic()
        await self.good.send_bytes(wire.pack(protocol.Step(self.request, frozenset({"forward"}))))
        frames = await self._answer(protocol.Frames)
        took = time.monotonic() - began
        assert (frames.request, frames.index) == (self.request, self.index), frames
        assert took < SERVED_WITHIN, f"beside the fuzzed browser a step took {took:.2f} s"

    async def _answer(self, kind: type) -> protocol.Message:
        """The next message of that kind; any other but a pong is a failure."""
        while True:
            received = await self.good.receive(2 * SERVED_WITHIN)
            assert received.type == aiohttp.WSMsgType.BINARY, f"{received.type}, code {self.good.close_code}"
            message = wire.unpack(received.data)
            if isinstance(message, kind):
                return message
            assert isinstance(message, protocol.Pong), message
