"""`Connection`: one browser's WebSocket with a DEALER of its own to the server. It waits for no other browser."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

import zmq
import zmq.asyncio
from aiohttp import WSMsgType, web
from zmq.utils.monitor import recv_monitor_message

from helios_world.bridge import protocol
from helios_world.bridge.client import open_socket
from helios_world.bridge.door import saving_interval
from helios_world.errors import ProtocolError
from helios_world.gateway import wire
from helios_world.gateway.relay import Relay

_log = logging.getLogger(__name__)

_WATCH = 0.1  # seconds between looks at the silence of a server
_FRAMES = 4  # messages that wait for a browser, beyond which real-time frames are dropped
_BACKLOG = 64  # messages that wait for a browser, beyond which it is not listened to


class _Ended(Exception):
    """One of the two sides is gone."""


class Connection:
    """Relays until the browser goes.

    Args:
        browser: open, and its token was right.
        address: of the server, which need not be there.
    """

    def __init__(self, browser: web.WebSocketResponse, address: str):
        self._browser, self._address = browser, address
        self._relay = Relay(autosave=saving_interval(address))
        self._socket: zmq.asyncio.Socket | None = None
        self._outbox: deque[protocol.Message | wire.Lost] = deque()
        self._filled = asyncio.Event()

    async def run(self) -> None:
        """Returns when the browser is gone; the world waits for its ticket until the lease is over."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_server())
                group.create_task(self._write())
                group.create_task(self._read_browser())
        except* _Ended:
            pass

    async def _read_browser(self) -> None:
        async for received in self._browser:
            try:
                if received.type != WSMsgType.BINARY:
                    raise ProtocolError("messages are binary")
                message = wire.unpack(received.data)
            except ProtocolError as error:
                self._relay.to_browser.append(protocol.Error(0, "bad_message", str(error)))
            else:
                self._relay.browser_said(message, time.monotonic())
            self._flush()
            while len(self._outbox) >= _BACKLOG:
                await asyncio.sleep(_WATCH)
        raise _Ended

    async def _follow_server(self) -> None:
        """One connection after the other, each until it is lost."""
        while True:
            self._socket = open_socket(self._address, context=zmq.asyncio.Context.instance())
            self._relay.connected(time.monotonic())
            self._flush()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._read_server())
                    group.create_task(self._hear_of_loss(self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)))
                    group.create_task(self._watch())
            except* _Ended:
                pass
            finally:
                self._socket.disable_monitor()
                self._socket.close(200)  # a farewell may still be on its way
            self._relay.lose()
            self._flush()

    async def _read_server(self) -> None:
        while True:
            parts = await self._socket.recv_multipart()
            try:
                message = protocol.decode(parts)
            except ProtocolError as error:
                _log.warning("%s sent what is no message: %s", self._address, error)
                continue
            self._relay.server_said(message, time.monotonic())
            self._flush()

    async def _hear_of_loss(self, monitor: zmq.asyncio.Socket) -> None:
        try:
            await recv_monitor_message(monitor)
        finally:
            monitor.close(0)
        raise _Ended

    async def _watch(self) -> None:
        while not self._relay.is_lost:
            await asyncio.sleep(_WATCH)
            self._relay.watch(time.monotonic())
            self._flush()
        raise _Ended

    def _flush(self) -> None:
        """Sends what the relay has for the server, and hands over what it has for the browser."""
        while self._relay.to_server:
            sent = self._socket.send_multipart(protocol.encode(self._relay.to_server.popleft()), zmq.DONTWAIT)
            if sent.exception() is not None:  # full: the silence that follows ends this connection
                break
        while self._relay.to_browser:
            message = self._relay.to_browser.popleft()
            is_live = isinstance(message, protocol.Frames) and not message.request
            if not (is_live and len(self._outbox) >= _FRAMES):
                self._outbox.append(message)
        self._filled.set()

    async def _write(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._outbox:
                try:
                    await self._browser.send_bytes(wire.pack(self._outbox.popleft()))
                except ConnectionError:
                    raise _Ended from None
