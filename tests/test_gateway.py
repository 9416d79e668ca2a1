"""The gateway over real sockets: who gets in, what garbage does, and a world that outlives its server."""

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from importlib.resources import files

import aiohttp
import numpy as np
import pytest

from helios_world.action import Action
from helios_world.bridge import codecs, protocol
from helios_world.bridge.server import WorldServer
from helios_world.demos.cli import main
from helios_world.engine import WorldEngine
from helios_world.gateway import app, wire
from helios_world.gateway.app import FULL, WRONG_TOKEN, Gateway, serve_page
from helios_world.testing import FakeWorldModel

TOKEN = "a long secret"
HELLO = protocol.Hello(protocol.VERSION, "test", "", ("jpeg",))


def new_server(address="tcp://127.0.0.1:0"):
    return WorldServer(WorldEngine(FakeWorldModel(seconds=0.005)), address)


class Browser:
    """A WebSocket that sends exactly what a test says."""

    def __init__(self, socket):
        self.socket = socket

    async def send(self, *messages):
        for message in messages:
            await self.socket.send_bytes(message if isinstance(message, bytes) else wire.pack(message))

    async def receive(self, kind=None):
        """The next message, or the next of that kind; `Lost` for the gateway's own."""
        while True:
            received = await self.socket.receive(10)
            assert received.type == aiohttp.WSMsgType.BINARY, f"{received.type}, code {self.socket.close_code}"
            is_lost = received.data == wire.pack(wire.LOST)
            message = wire.LOST if is_lost else wire.unpack(received.data)
            if kind is None or isinstance(message, kind):
                return message

    async def play(self, seed=0):
        """Hello and a new world: its first frames."""
        await self.send(HELLO)
        self.welcome = await self.receive(protocol.Welcome)
        await self.send(protocol.Reset(1, None, seed))
        return await self.receive(protocol.Frames)

    async def chunk(self, index, *buttons):
        await self.send(protocol.Act(index, 0.0, frozenset(buttons), index))
        return await self.receive(protocol.Frames)

    async def close_code(self):
        while not self.socket.closed:
            await self.socket.receive(10)
        return self.socket.close_code


@contextlib.asynccontextmanager
async def page(address, **options):
    """A gateway to `address`: gives its URL, and a function that makes browsers."""
    ready, loop = asyncio.Event(), asyncio.get_running_loop()
    told = []
    serving = loop.create_task(
        serve_page(Gateway(address, TOKEN, **options), "127.0.0.1", 0, lambda port: (told.append(port), ready.set()))
    )
    await ready.wait()
    url = f"http://127.0.0.1:{told[0]}"
    async with aiohttp.ClientSession() as session:

        async def browser(token=TOKEN, **headers):
            browser = Browser(await session.ws_connect(f"{url}/ws", headers=headers, max_msg_size=0))
            if token is not None:
                await browser.send(wire.pack_token(token))
            return browser

        try:
            yield session, url, browser
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
def gateway(served):
    """Runs `play(session, url, browser)` beside a gateway and a server."""

    def run(play, **options):
        async def game(address):
            async with page(address, **options) as (session, url, browser):
                return await play(session, url, browser)

        with served(new_server()) as address:
            return asyncio.run(asyncio.wait_for(game(address), 30))

    return run


def test_the_page_is_served_whole_and_allows_nothing_foreign(gateway):
    async def play(session, url, browser):
        async with session.get(f"{url}/") as index:
            assert index.status == 200 and index.content_type == "text/html"
            policy, html = index.headers["Content-Security-Policy"], await index.text()
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|https?://", html)
        for name in files("helios_world.gateway").joinpath("web").iterdir():
            if name.name != "package.json":
                async with session.get(f"{url}/{name.name}") as found:
                    assert (found.status, await found.read()) == (200, name.read_bytes())
        for name in ("package.json", "..%2fapp.py", "%2e%2e/app.py", "index.html/"):
            async with session.get(f"{url}/{name}") as missing:
                assert missing.status == 404

    gateway(play)


def test_a_browser_joins_plays_and_sees_what_the_model_makes(gateway):
    async def play(_session, _url, browser):
        player = await browser()
        first = await player.play(7)
        assert (player.welcome.codec, player.welcome.card.name, first.request) == ("jpeg", "fake", 1)
        return first, await player.chunk(1, "turn_left"), await player.chunk(2)

    session, chunk = WorldEngine(FakeWorldModel()).open("maze", seed=7)
    made = [chunk, session.step(Action.of("turn_left")), session.step()]
    for got, expected in zip(gateway(play), made, strict=True):
        assert (got.index, got.codec) == (expected.index, "jpeg")
        difference = codecs.unpack_frames(got).astype(float) - expected.frames
        assert np.abs(difference).mean() < 3


@pytest.mark.parametrize(
    "first",
    [wire.pack_token("wrong"), wire.pack_token("ä\ud800"), wire.pack(HELLO), b"", "text"],
    ids=["wrong", "odd", "hello first", "empty", "text"],
)
def test_without_the_token_nobody_gets_in(gateway, first):
    async def play(_session, _url, browser):
        stranger = await browser(token=None)
        await (stranger.socket.send_str(first) if isinstance(first, str) else stranger.send(first))
        assert await stranger.close_code() == WRONG_TOKEN

    gateway(play)


def test_a_browser_that_does_not_say_its_token_is_sent_away(gateway, monkeypatch):
    monkeypatch.setattr(app, "TOKEN_SECONDS", 0.2)

    async def play(_session, _url, browser):
        stranger = await browser(token=None)
        assert await stranger.close_code() == WRONG_TOKEN

    gateway(play)


def test_pages_of_others_may_not_connect_unless_they_are_listed(gateway):
    async def play(session, url, browser):
        for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await browser(**headers)
            assert refused.value.status == 403
            async with session.get(url, headers=headers) as answer:
                assert answer.status == 403
        for origin in (url, "https://friend.example"):
            player = await browser(Origin=origin)
            assert (await player.play()).index == 0

    gateway(play, origins=["https://friend.example"])


GARBAGE = [b"", b"\0\0\0\1", b"\xff" * 64, wire.pack(HELLO)[:-1], wire.pack(protocol.Ping(0.0)) + b"x"]


def test_garbage_is_answered_and_the_game_goes_on(gateway):
    async def play(_session, _url, browser):
        player = await browser()
        await player.play()
        for garbage in GARBAGE:
            await player.send(garbage)
            assert (await player.receive(protocol.Error)).code == "bad_message"
        await player.socket.send_str("{}")
        assert (await player.receive(protocol.Error)).message == "messages are binary"
        await player.send(*[b"junk"] * 500)
        errors = [await player.receive(protocol.Error) for _ in range(500)]
        assert {error.code for error in errors} == {"bad_message"}
        await player.send(protocol.Step(2, frozenset({"fly"})))
        assert (await player.receive(protocol.Error)).code == "bad_request"
        assert (await player.chunk(1)).index == 1

    gateway(play)


def test_a_message_that_is_too_large_ends_its_sender_alone(gateway):
    async def play(_session, _url, browser):
        large, other = await browser(), await browser()
        await large.play()
        await other.play()
        await large.send(wire.pack(protocol.Restore(2, bytes(wire.MAX_INBOUND))))
        assert await large.close_code() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        assert (await other.chunk(1)).index == 1

    gateway(play)


def test_two_browsers_have_two_worlds(gateway):
    async def play(_session, _url, browser):
        a, b = await browser(), await browser()
        await a.play(1)
        await b.play(2)
        one, two = await a.chunk(1, "attack"), await b.chunk(1)
        assert a.welcome.session != b.welcome.session
        return [codecs.unpack_frames(frames).astype(float) for frames in (one, two)]

    for seed, held, got in zip((1, 2), (("attack",), ()), gateway(play), strict=True):
        session, _ = WorldEngine(FakeWorldModel()).open("maze", seed=seed)
        assert np.abs(got - session.step(Action.of(*held)).frames).mean() < 3


def test_places_are_limited_and_given_again(gateway):
    async def play(_session, _url, browser):
        first = await browser()
        await first.play()
        assert await (await browser()).close_code() == FULL
        await first.socket.close()
        await asyncio.sleep(0.2)
        assert (await (await browser()).play()).index == 0

    gateway(play, max_browsers=1)


def test_a_browser_that_takes_nothing_holds_up_nobody(gateway):
    async def play(_session, _url, browser):
        stuck, player = await browser(), await browser()
        await stuck.play()
        await player.play()
        for index in range(1, 400):
            await stuck.send(protocol.Act(index, 0.0, frozenset(), index))
        waited = []
        for index in range(1, 40):
            began = time.monotonic()
            await player.chunk(index)
            waited.append(time.monotonic() - began)
        assert np.quantile(waited, 0.9) < 0.2

    gateway(play)


def test_a_world_comes_back_when_its_browser_does(gateway):
    async def play(_session, _url, browser):
        player = await browser()
        await player.play()
        await player.chunk(1)
        await player.socket.close()
        again = await browser()
        await again.send(protocol.Hello(protocol.VERSION, "test", player.welcome.session, ("jpeg",)))
        assert (await again.receive(protocol.Welcome)).chunk == 2

    gateway(play)


class Killable:
    """A server in a thread that a test can end, and start again on the same port."""

    def __init__(self):
        self.address = "tcp://127.0.0.1:0"

    def start(self):
        self._server, self._stop = new_server(self.address), threading.Event()
        self.address = self._server.address
        self._thread = threading.Thread(target=self._server.serve, args=(self._stop.is_set,))
        self._thread.start()

    def kill(self):
        self._stop.set()
        self._thread.join(5)
        self._server.close()


def test_a_server_that_died_is_replaced_and_the_world_goes_on_where_it_was():
    async def play(server):
        async with page(server.address) as (_session, _url, browser):
            player = await browser()
            await player.play(5)
            await player.chunk(1, "turn_left")
            await asyncio.sleep(0.2)  # a snapshot is on its way
            await asyncio.to_thread(server.kill)
            assert await player.receive(wire.Lost) is wire.LOST
            await player.send(protocol.Ping(1.0))
            assert await player.receive() == protocol.Pong(1.0), "the gateway is there without its server"
            await asyncio.to_thread(server.start)
            began = time.monotonic()
            welcome = await player.receive(protocol.Welcome)
            print(f"\nrecovered {1000 * (time.monotonic() - began):.0f} ms after the server was back")
            assert time.monotonic() - began < 1
            assert welcome.chunk in (1, 2) and welcome.session != player.welcome.session
            return welcome.chunk, codecs.unpack_frames(await player.chunk(welcome.chunk, "turn_left"))

    server = Killable()
    server.start()
    try:
        chunk, got = asyncio.run(asyncio.wait_for(play(server), 30))
    finally:
        server.kill()
    local, _ = WorldEngine(FakeWorldModel()).open("maze", seed=5)
    made = [local.step(Action.of("turn_left")) for _ in range(2)]
    assert np.abs(got.astype(float) - made[chunk - 1].frames).mean() < 3


def test_the_first_server_may_come_late():
    async def play(server):
        async with page(server.address) as (_session, _url, browser):
            player = await browser()
            await player.send(HELLO)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(server.start)
            assert (await player.receive(protocol.Welcome)).chunk == 0

    server = Killable()
    server.start()
    server.kill()
    try:
        asyncio.run(asyncio.wait_for(play(server), 30))
    finally:
        server.kill()


MISTAKES = {
    "host is '0.0.0.0': must be loopback": ["--host", "0.0.0.0"],
    "port is 70000: must be from 0 to 65535": ["--port", "70000"],
    "the token is empty": ["--token", ""],
    "max_browsers is 0: must be at least 1": ["--max-browsers", "0"],
    "origin is 'example.org': must be as https://example.org": ["--origin", "example.org"],
    "cannot connect to 'nonsense'": ["--connect", "nonsense"],
}


@pytest.mark.parametrize(("text", "words"), MISTAKES.items(), ids=[words[0] for words in MISTAKES.values()])
def test_mistakes_are_one_line(capsys, text, words):
    assert main(["gateway", "--connect", "tcp://127.0.0.1:1", *words]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


def test_the_command_prints_a_token_of_its_own_and_ends_when_told():
    words = [sys.executable, "-m", "helios_world", "gateway", "--connect", "tcp://127.0.0.1:1", "--port", "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        port = re.search(r"http://127\.0\.0\.1:(\d+)/#token=[\w-]{22}$", line.strip())[1]
        assert main([*words[3:-1], port]) == 2, "the port is taken"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert (process.returncode, errors) == (130, "stopped\n")
    finally:
        process.kill()
        process.wait()
