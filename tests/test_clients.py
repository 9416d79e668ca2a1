"""Clients in other languages against a live server: they read the vectors, stream, steer and survive its death.

`make clients` runs these. Each language has a `pilot`: a program that does what its stdin says and prints what happens.
"""

import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from helios_world.bridge.keys import make_keys, read_pair, read_public
from helios_world.testing import FAKE_CARD

CLIENTS = Path(__file__).resolve().parent.parent / "clients"
pytestmark = pytest.mark.clients


def run(*words, cwd):
    ran = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, f"{' '.join(map(str, words))}\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}"
    return ran.stdout


def need(*programs):
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: clients/README.md says what each client needs")


def javascript():
    need("node", "npm")
    folder = CLIENTS / "javascript"
    run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder)
    return ["node", "--test", "test.mjs"], ["node", "pilot.mjs"], folder


def cpp():
    need("make", "g++", "pkg-config")
    folder = CLIENTS / "cpp"
    if not all((Path("/usr/include") / name).exists() for name in ("zmq.hpp", "nlohmann/json.hpp")):
        pytest.skip("cppzmq-dev or nlohmann-json3-dev is missing")
    run("make", "--silent", cwd=folder)
    return ["build/vectors"], ["build/pilot"], folder


def csharp():
    need("make", "mcs", "mono")
    folder = CLIENTS / "csharp"
    run("make", "--silent", cwd=folder)
    return ["mono", "build/vectors.exe"], ["mono", "build/pilot.exe"], folder


@pytest.fixture(scope="module", params=[javascript, cpp, csharp], ids=lambda build: build.__name__)
def client(request):
    """(command of the vector test, command of the pilot, folder) of one language, built."""
    return request.param()


@pytest.mark.parametrize("build", [javascript, cpp], ids=lambda build: build.__name__)
def test_its_example_shows_figures_and_a_picture(build, server, tmp_path):
    folder = build()[2]
    commands = {
        javascript: ["node", folder / "example.mjs", server.address, "--seconds", "2"],
        cpp: [folder / "build" / "example", server.address, "2"],
    }
    said = run(*commands[build], cwd=tmp_path)
    assert float(re.search(r"^fps ([\d.]+)$", said, re.MULTILINE)[1]) == pytest.approx(FAKE_CARD.fps, rel=0.1)
    assert "frame age p50" in said and "round trip p50" in said
    assert (tmp_path / "last.ppm").stat().st_size == len("P6 80 64 255\n") + 80 * 64 * 3


class Server:
    """`helios-world serve --fake` on one port, which may die and come back."""

    def __init__(self, *options):
        self.options = options
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        words = [sys.executable, "-m", "helios_world", "serve", "--fake", "--port", str(self.port)]
        words += self.options
        self.process = subprocess.Popen(words, cwd=CLIENTS.parent, stdout=subprocess.PIPE, text=True)
        assert self.address in self.process.stdout.readline()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(5)
        self.process.stdout.close()


class Pilot:
    """A pilot as a child process, and what it said with the time of each line."""

    def __init__(self, words, folder, address, codec="raw", keys=()):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self.process = subprocess.Popen([*words, address, codec, *keys], cwd=folder, **pipes)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put((time.monotonic(), line.split()))

    def say(self, line):
        self.process.stdin.write(line + "\n")

    def hear(self, word, timeout=10.0):
        """What follows `word` in the next line that begins with it."""
        return self.until(word, timeout)[-1][1][1:]

    def until(self, word, timeout=10.0):
        """Every (time, words) up to the next line that begins with `word`."""
        seen, deadline = [], time.monotonic() + timeout
        while not seen or seen[-1][1][0] != word:
            try:
                seen.append(self.lines.get(timeout=max(0.01, deadline - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"no {word} within {timeout} s; last lines: {seen[-3:]}") from None
        return seen

    def ask(self, line, word):
        self.say(line)
        return self.hear(word)

    def frames(self, seconds):
        """The frames that come within `seconds`: (time, chunk, index, seq, place of the bar)."""
        time.sleep(seconds)
        lines = [self.lines.get() for _ in range(self.lines.qsize())]
        return [(at, *map(int, words[1:4]), bar(words[4])) for at, words in lines if words[0] == "frame"]

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        self.reader.join(5)
        self.process.stdout.close()


@pytest.fixture
def server():
    running = Server()
    yield running
    running.kill()


@pytest.fixture
def pilot(client, server):
    flying = Pilot(client[1], client[2], server.address)
    yield flying
    if flying.process.poll() is None:
        flying.process.kill()
        flying.process.wait(5)


def test_it_takes_jpegs_over_an_encrypted_line(client, tmp_path):
    names = [make_keys(tmp_path, name) for name in ("server", "ada")]
    (server_key, server_pub), (own_key, own_pub) = names
    server = Server("--codec", "jpeg", "--key", str(server_key), "--allow", str(own_pub))
    own, theirs = read_pair(own_key), read_public(server_pub)
    pilot = Pilot(client[1], client[2], server.address, "jpeg", (own.public, own.secret, theirs))
    try:
        pilot.hear("card")
        pilot.ask("reset 1", "began")
        pilot.say("stream")
        seen = [pilot.hear("frame") for _ in range(12)]
        pilot.close()
    finally:
        pilot.process.kill()
        pilot.process.wait(5)
        server.kill()
    assert all(words[3].startswith("ffe0") for words in seen)  # bytes 0 and 3 of a JFIF file


def bar(row_hex):
    """Column where the bright bar of the fake world begins."""
    bright = [value > 100 for value in bytes.fromhex(row_hex)]
    return next(x for x in range(len(bright)) if bright[x] and not bright[x - 1])


def moved(frames):
    """How far the bar went from each frame to the next, to the right."""
    return [(b[4] - a[4]) % FAKE_CARD.width for a, b in pairwise(frames)]


@pytest.fixture
def streaming(pilot):
    """The pilot, with frames of a world coming."""
    pilot.hear("card")
    pilot.ask("reset 1", "began")
    pilot.say("stream")
    return pilot


def test_it_reads_the_vectors(client):
    test, _, folder = client
    ran = run(*test, cwd=folder)
    passed = re.search(r"^(?:# pass )?(\d+)(?: passed, 0 failed)?$", ran, re.MULTILINE)
    assert passed and int(passed[1]) > 100, ran


def test_it_steps_and_goes_back(pilot):
    assert pilot.hear("card") == ["fake", "80", "64", "17.5"]
    assert pilot.ask("step", "error")[0] == "no_world"
    assert pilot.ask("reset 3", "began") == ["0"]
    first = pilot.ask("step turn_left", "stepped")
    assert int(pilot.ask("snapshot", "snapshot")[0]) > 100
    second = pilot.ask("step turn_left,attack", "stepped")
    assert (first[0], second[0]) == ("1", "2")
    assert pilot.ask("step jump", "error")[0] == "bad_request"
    pilot.ask("restore", "restored")
    assert pilot.ask("step turn_left,attack", "stepped") == second
    assert pilot.ask("prompt rain", "error")[0] == "bad_request"  # this world takes none
    pilot.close()


def test_a_request_sent_again_is_not_done_again(pilot, server):
    pilot.hear("card")
    pilot.ask("reset 3", "began")
    server.process.send_signal(signal.SIGSTOP)
    pilot.say("step turn_left")
    pilot.hear("lost", 5.0)
    server.process.send_signal(signal.SIGCONT)
    assert pilot.hear("stepped")[0] == "1"
    assert pilot.ask("step turn_left", "stepped")[0] == "2"
    pilot.close()


def test_it_streams_and_steers(streaming, request):
    still = streaming.frames(2.5)
    streaming.say("hold turn_left")
    turning = streaming.frames(2.5)
    stats = [float(word) for word in streaming.ask("stats", "stats")]
    frames = still + turning
    assert set(moved(still)) == {0}
    assert set(moved(turning[-24:])) == {3}  # turn_left: three pixels to the right with every frame
    assert turning[-1][3] > still[-1][3]  # the frames say which input they include
    assert all((a[1], a[2]) < (b[1], b[2]) for a, b in pairwise(frames))
    fps = (len(frames) - 1) / (frames[-1][0] - frames[0][0])
    name = request.node.callspec.id
    print(f"\n{name}: {fps:.2f} fps; frame age p50 {stats[1]:.2f} ms, p95 {stats[2]:.2f} ms; ", end="")
    print(f"round trip p50 {stats[3]:.2f} ms, p95 {stats[4]:.2f} ms; {stats[5]:.0f} late chunks")
    assert fps == pytest.approx(FAKE_CARD.fps, rel=0.05) and stats[0] == pytest.approx(FAKE_CARD.fps, rel=0.05)
    assert 0 < stats[1] <= stats[2] < 100 and 40 < stats[3] <= stats[4] < 200
    streaming.ask("snapshot", "snapshot")
    streaming.say("hold")
    streaming.ask("restore", "restored")
    assert set(moved(streaming.frames(1.0)[-8:])) == {0}
    streaming.close()


def test_the_mouse_turns_for_as_many_frames_as_it_moved(streaming):
    still = streaming.frames(1.5)
    for _ in range(5):
        streaming.say("look -18")  # 90 counts in all: three frames of the fake world's 30
    after = streaming.frames(2.0)
    turned = moved([still[-1], *after])
    assert sorted(turned, reverse=True)[:4] == [3, 3, 3, 0] and sum(turned) == 9
    streaming.close()


def test_it_survives_the_death_of_the_server(streaming, server, request):
    streaming.say("hold turn_left")
    before = streaming.frames(3.0)
    server.kill()
    streaming.hear("lost", 3.0)
    server.start()
    up = time.monotonic()
    assert streaming.hear("back") == ["anew"]  # the new server does not know the ticket
    after = streaming.frames(1.5)
    print(f"\n{request.node.callspec.id}: picture again {1000 * (after[0][0] - up):.0f} ms after the server was up")
    assert after[0][0] - up < 1.0
    assert before[-1][1] - 12 < after[0][1] <= before[-1][1] + 1  # from a snapshot two seconds old, not from the start
    assert set(moved(after[-8:])) == {3}  # what was held is still held
    streaming.close()


def test_it_takes_its_world_up_again_after_a_silence(streaming, server):
    before = streaming.frames(2.5)
    server.process.send_signal(signal.SIGSTOP)
    streaming.hear("lost", 5.0)
    server.process.send_signal(signal.SIGCONT)
    assert streaming.hear("back") == ["kept"]
    after = streaming.frames(1.0)
    assert after[0][1] <= before[-1][1] + 6 and len(after) > 10
    streaming.close()


# Godot goes through the gateway. Its pilot plays the example's own scene, with keys instead of buttons.

TOKEN = "a long secret"


class Gateway(Server):
    """`helios-world gateway` to a server, on one port."""

    def __init__(self, server):
        self.server = server
        super().__init__("--connect", server, "--token", TOKEN)

    def start(self):
        words = [sys.executable, "-m", "helios_world", "gateway", "--port", str(self.port), *self.options]
        self.process = subprocess.Popen(words, cwd=CLIENTS.parent, stdout=subprocess.PIPE, text=True)
        assert f":{self.port}/" in self.process.stdout.readline()


@pytest.fixture
def gateway(server):
    running = Gateway(server.address)
    yield running
    running.kill()


@pytest.fixture
def godot(gateway):
    """Starts pilots, with the right token or another."""
    need("godot")
    words = ["godot", "--headless", "--no-header", "--path", ".", "--script", "pilot.gd", "--", "--address"]
    flying = []

    def fly(token=TOKEN):
        address = f"ws://127.0.0.1:{gateway.port}/ws"
        flying.append(Pilot(words, CLIENTS / "godot", address, "--token", (token,)))
        return flying[-1]

    yield fly
    for pilot in flying:
        if pilot.process.poll() is None:
            pilot.process.kill()
            pilot.process.wait(5)


def turning(godot, seconds):
    """A pilot that holds left, and the frames of that time."""
    pilot = godot()
    pilot.hear("frame", 30.0)
    pilot.say("press left")
    return pilot, pilot.frames(seconds)


def test_godot_streams_and_steers(godot):
    pilot = godot()
    assert pilot.hear("card", 30.0) == ["fake", "80", "64", "17.5"]
    pilot.hear("frame")
    still = pilot.frames(2.5)
    pilot.say("press left")
    turning = pilot.frames(2.5)
    fps, round_trip, late = map(float, pilot.ask("stats", "stats"))
    figures = " ".join(pilot.hear("figures"))
    frames = still + turning
    shown = (len(frames) - 1) / (frames[-1][0] - frames[0][0])
    print(f"\ngodot: {shown:.2f} fps; round trip p50 {round_trip:.2f} ms; {late:.0f} late chunks")
    assert set(moved(still)) == {0} and set(moved(turning[-24:])) == {3}
    assert turning[-1][3] > still[-1][3] and all((a[1], a[2]) < (b[1], b[2]) for a, b in pairwise(frames))
    assert shown == pytest.approx(FAKE_CARD.fps, rel=0.05) and fps == pytest.approx(FAKE_CARD.fps, rel=0.1)
    gaps = sorted(b[0] - a[0] for a, b in [*pairwise(still), *pairwise(turning)])
    assert gaps[len(gaps) // 10] > 0.5 / FAKE_CARD.fps  # evenly, though they come four at a time
    assert figures.startswith("fake, seed 0 ") and " fps round trip " in figures and figures.endswith(" playing")
    pilot.say("release left")
    before = pilot.frames(1.5)[-8:]
    assert set(moved(before)) == {0}
    pilot.say("look -90")
    assert sum(moved([before[-1], *pilot.frames(1.5)])) == 9, "three frames of turning, as 30 counts are one"
    assert "takes no prompt" in " ".join(pilot.ask("prompt rain", "error"))
    pilot.say("press r")  # a new world, with the next seed
    time.sleep(1.0)
    pilot.say("stats")
    assert pilot.hear("figures")[:3] == ["fake,", "seed", "1"]
    pilot.close()


def test_godot_survives_the_death_of_the_server(godot, server):
    pilot, before = turning(godot, 3.0)
    server.kill()
    pilot.hear("lost", 3.0)
    server.start()
    up = time.monotonic()
    assert pilot.hear("back") == ["kept"]  # the gateway restored its newest snapshot
    after = pilot.frames(1.5)
    print(f"\ngodot: picture again {1000 * (after[0][0] - up):.0f} ms after the server was up")
    assert before[-1][1] - 12 < after[0][1] <= before[-1][1] + 1
    assert set(moved(after[-8:])) == {3}  # what was held is still held
    pilot.close()


def test_godot_takes_its_world_up_again_at_another_gateway(godot, gateway):
    pilot, before = turning(godot, 2.0)
    gateway.kill()
    pilot.hear("lost", 3.0)
    gateway.start()
    assert pilot.hear("back") == ["kept"]  # the server still had it, and knew the ticket
    after = pilot.frames(1.5)
    assert before[-1][1] < after[0][1] <= before[-1][1] + 6 and set(moved(after[-8:])) == {3}
    pilot.close()


def test_godot_says_that_its_token_is_wrong(godot):
    pilot = godot("a guess")
    assert pilot.hear("refused", 30.0) == ["wrong", "token"]
    time.sleep(0.5)
    pilot.say("stats")
    assert pilot.hear("figures")[-3:] == ["refused:", "wrong", "token"]
    pilot.close()
