"""What others do with the same frames, measured in the same way: imageZMQ's pattern, and a plain WebSocket."""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from typing import Any

import numpy as np
import zmq
from simplejpeg import encode_jpeg

from helios_world.bridge.codecs import JPEG_QUALITY
from helios_world.demos.bench_child import FPS, SIZES, percentiles, process, spawn
from helios_world.errors import MissingExtra

_TIME = struct.Struct("<d")


def request_reply(seconds: float, size: str) -> dict[str, float]:
    """The pattern of imageZMQ: each JPEG is sent by REQ and must be answered before the next one leaves."""
    print(f"{size} jpeg by request and reply", file=sys.stderr)
    context = zmq.Context()
    socket = context.socket(zmq.REP)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    sender, _ = spawn(_request, SIZES[size], port, seconds)
    ages, ends = [], time.monotonic() + seconds + 5
    while time.monotonic() < ends and (sender.is_alive() or socket.poll(0)):
        if socket.poll(50):
            ages.append(_age(socket.recv()))
            socket.send(b"OK")
    sender.join()
    socket.close(0)
    context.term()
    return _figures(ages, seconds)


def websocket(seconds: float, size: str) -> dict[str, float]:
    """A plain WebSocket (aiohttp) that sends a JPEG for every frame interval, whether it is read or not."""
    print(f"{size} jpeg by WebSocket", file=sys.stderr)
    with process(_serve_websocket, SIZES[size], seconds) as port:
        return _figures(asyncio.run(_listen(int(port))), seconds)


def check_websocket() -> None:
    """MissingExtra where WebSockets cannot be measured."""
    try:
        import aiohttp  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtra("aiohttp", "web") from None


def _picture(size: tuple[int, int]) -> np.ndarray:
    height, width = size
    picture = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3)).astype(np.uint8)
    return np.ascontiguousarray(picture.repeat(8, 0).repeat(8, 1))


def _message(picture: np.ndarray) -> bytes:
    """When the frame was made, before it was encoded, and the JPEG."""
    made_at = time.monotonic()
    return _TIME.pack(made_at) + encode_jpeg(picture, JPEG_QUALITY, "RGB", "444")


def _age(message: bytes) -> float:
    """Milliseconds since the frame was made."""
    return (time.monotonic() - _TIME.unpack_from(message)[0]) * 1000


def _figures(ages: list[float], seconds: float) -> dict[str, float]:
    return {**percentiles("age_ms", np.array(ages)), "fps_per_client": round(len(ages) / seconds, 2)}


def _request(size: tuple[int, int], port: int, seconds: float, ready: Any) -> None:
    picture = _picture(size)
    socket = zmq.Context.instance().socket(zmq.REQ)
    socket.connect(f"tcp://127.0.0.1:{port}")
    ready.send("")
    due = time.monotonic()
    ends = due + seconds
    while (now := time.monotonic()) < ends:
        time.sleep(max(0.0, due - now))
        socket.send(_message(picture))
        socket.recv()
        due += 1 / FPS


def _serve_websocket(size: tuple[int, int], seconds: float, ready: Any) -> None:
    from aiohttp import web

    picture = _picture(size)

    async def show(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        due = time.monotonic()
        ends = due + seconds
        while (now := time.monotonic()) < ends:
            await asyncio.sleep(max(0.0, due - now))
            await socket.send_bytes(_message(picture))
            due += 1 / FPS
        await socket.close()
        return socket

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/", show)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ready.send(str(runner.addresses[0][1]))
        await asyncio.Event().wait()

    asyncio.run(serve())


async def _listen(port: int) -> list[float]:
    from aiohttp import ClientSession

    async with ClientSession() as session, session.ws_connect(f"http://127.0.0.1:{port}/") as socket:
        return [_age(message.data) async for message in socket]
