"""Faults of processes: both sides say what is wrong, play on within a second of its end, and lose nothing answered."""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import zmq

from helios_world.action import Action
from helios_world.bridge import protocol
from helios_world.bridge.client import RemoteSession
from helios_world.bridge.process import ServerProcess
from helios_world.bridge.server import WorldServer
from helios_world.bridge.stream import WorldStream
from helios_world.controllers import RandomController, Recording
from helios_world.demos import play
from helios_world.demos.headless import play_headless
from helios_world.demos.link import Link
from helios_world.demos.recording import VideoWriter
from helios_world.engine import WorldEngine
from helios_world.errors import ServerError, UserError
from helios_world.snapshot import write_bytes
from helios_world.testing import FAKE_CARD, FakeWorldModel
from tests.chaos import ChaosProxy

RECOVERED = 1.0  # seconds from the end of a fault to the next answer
LEFT = Action.of("turn_left")
needs_full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


class Faulty(FakeWorldModel):
    """Raises `fault` in the verb named `where`, while there is one."""

    fault: Exception | None = None
    where = ""

    def _may_fail(self, verb):
        if self.fault is not None and self.where == verb:
            raise self.fault

    def reset(self, *args, **options):
        self._may_fail("reset")
        return super().reset(*args, **options)

    def step(self, *args, **options):
        self._may_fail("step")
        return super().step(*args, **options)

    def prepare(self, state):
        self._may_fail("prepare")
        return super().prepare(state)

    def to_arrays(self, state):
        self._may_fail("to_arrays")
        return super().to_arrays(state)


def walk(steps, seed=3):
    """Frames of chunk 1 to `steps` of the world of `seed`, turning left."""
    session, _ = WorldEngine(FakeWorldModel()).open(seed=seed)
    return [session.step(LEFT).frames for _ in range(steps)]


def timed(what, *args):
    """What it gives, if that takes no longer than a recovery may."""
    began = time.monotonic()
    result = what(*args)
    took = time.monotonic() - began
    assert took < RECOVERED, f"{what} took {took:.2f} s"
    return result


def show(stream, count, seconds=10.0):
    """Ticks until `count` new frames were shown; the last of them."""
    until, shown = time.monotonic() + seconds, None
    while count:
        assert time.monotonic() < until, f"{stream.status}, {stream.message!r}"
        frame = stream.tick()
        if frame is not None and frame.is_new:
            shown, count = frame, count - 1
        stream.wait(0.01)
    return shown


FAULTS = [RuntimeError("out of luck"), MemoryError("16 GiB"), torch.cuda.OutOfMemoryError("CUDA out of memory")]
VERBS = {
    "step": lambda session: session.step(LEFT),
    "reset": lambda session: session.reset(seed=4),
    "to_arrays": lambda session: session.snapshot(),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("where", VERBS)
def test_a_generator_that_fails_says_so_and_the_world_is_as_it_was(served, fault, where):
    model = Faulty()
    with served(WorldServer(WorldEngine(model))) as address:
        session, other = RemoteSession(address), RemoteSession(address)
        frames = [session.reset(seed=3), session.step(LEFT)][1:]
        model.where, model.fault = where, fault
        for _ in range(3):
            with pytest.raises(ServerError, match=str(fault)) as error:
                VERBS[where](session)
            assert error.value.code == "engine"
        model.fault = None
        frames += [timed(session.step, LEFT), session.step(LEFT)]
        assert [chunk.index for chunk in frames] == [1, 2, 3]
        assert np.array_equal([chunk.frames for chunk in frames], walk(3))
        assert timed(other.reset).index == 0
        session.close()
        other.close()


def test_work_ahead_that_fails_costs_no_chunk(served):
    model = Faulty()
    with served(WorldServer(WorldEngine(model))) as address:
        session = RemoteSession(address)
        session.reset(seed=3)
        model.where, model.fault = "prepare", MemoryError("16 GiB")
        frames = []
        for _ in range(4):
            frames.append(timed(session.step, LEFT).frames)
            time.sleep(0.05)
        assert np.array_equal(frames, walk(4))
        session.close()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_player_sees_why_and_plays_on(served, fault):
    model = Faulty(seconds=0.01)
    with served(WorldServer(WorldEngine(model))) as address:
        stream = WorldStream(address)
        stream.start(seed=3)
        before = show(stream, 6)
        model.where, model.fault = "step", fault
        until = time.monotonic() + 0.8
        while time.monotonic() < until:
            stream.tick()
            stream.wait(0.01)
        assert str(fault) in stream.message and stream.status == "playing"
        model.fault = None
        after = timed(show, stream, 4)  # what was there already may be the first of them
        assert 0 <= after.chunk - before.chunk <= 3
        stream.close()


@pytest.mark.parametrize("seconds", [0.6, 1.7, 2.7], ids=["shorter", "as long as", "longer than what tells"])
def test_a_server_that_was_stopped_answers_what_it_was_asked(process, seconds):
    session = RemoteSession(process.wait_ready(20))
    session.reset(seed=3)
    frames = [session.step(LEFT).frames]
    os.kill(process.pid, signal.SIGSTOP)
    asked = threading.Timer(seconds, os.kill, (process.pid, signal.SIGCONT))
    asked.start()
    began = time.monotonic()
    frames.append(session.step(LEFT).frames)
    assert time.monotonic() - began < seconds + RECOVERED
    frames.append(session.step(LEFT).frames)
    assert np.array_equal(frames, walk(3))
    session.close()


def test_an_agent_goes_on_from_its_snapshot_when_the_server_was_killed(process):
    session = RemoteSession(process.wait_ready(20))
    session.reset(seed=3)
    frames = [session.step(LEFT).frames for _ in range(2)]
    saved = session.snapshot()
    os.kill(process.pid, signal.SIGKILL)
    process.restart()
    process.wait_ready(20)

    def go_on():
        with pytest.raises(ServerError, match="no longer has this world") as error:
            session.step(LEFT)
        assert error.value.code == "unknown_session"
        session.restore(saved)
        return session.step(LEFT).frames

    frames.append(timed(go_on))
    assert np.array_equal(frames, walk(3))
    session.close()


CLIENT = """
import sys
from helios_world.action import Action
from helios_world.bridge.client import RemoteSession
session = RemoteSession(sys.argv[1], timeout=30)
session.reset(seed=3)
print(session._ticket, flush=True)
while True:
    session.step(Action.of("turn_left"))
"""


def passing(proxy, size):
    """Waits until that many more bytes came to the proxy."""
    until, start = time.monotonic() + 10, len(proxy.seen)
    while len(proxy.seen) < start + size:
        assert time.monotonic() < until, "nothing passes"
        time.sleep(0.005)


def test_a_client_killed_in_mid_frame_delays_nobody_and_its_world_waits(address):
    other = RemoteSession(address)
    other.reset(seed=5)
    proxy = ChaosProxy(int(address.rsplit(":", 1)[1]))
    client = subprocess.Popen([sys.executable, "-c", CLIENT, proxy.address], stdout=subprocess.PIPE, text=True)
    try:
        ticket = client.stdout.readline().strip()
        proxy.set(bandwidth=2e5, slice=2000)  # a chunk of 61 kB takes a third of a second
        passing(proxy, 61_000 + 20_000)
    finally:
        client.kill()
        client.wait()
        client.stdout.close()
    assert np.array_equal(timed(other.step, LEFT).frames, walk(1, seed=5)[0])
    session = timed(lambda: RemoteSession(address, ticket=ticket))
    chunk = timed(session.step, LEFT)
    assert np.array_equal(chunk.frames, walk(chunk.index)[-1]), "the world as it was, no chunk made twice"
    proxy.close()
    session.close()
    other.close()


def test_a_client_gone_in_the_midst_of_what_it_sends_changes_nothing(address):
    other = RemoteSession(address)
    other.reset(seed=3)
    proxy = ChaosProxy(int(address.rsplit(":", 1)[1]))
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.linger = 0
    socket.connect(proxy.address)
    socket.send_multipart(protocol.encode(protocol.Hello(protocol.VERSION, "short")))
    assert isinstance(protocol.decode(socket.recv_multipart()), protocol.Welcome)
    proxy.set(bandwidth=1e6, slice=2000)
    socket.send_multipart(protocol.encode(protocol.Restore(1, bytes(4 << 20))))
    passing(proxy, 200_000)
    socket.close(0)
    proxy.reset_all()
    assert np.array_equal(timed(other.step, LEFT).frames, walk(1)[0])
    proxy.close()
    other.close()


LATER_VERSION = """
import sys
from helios_world.bridge import protocol
protocol.VERSION += 1
from helios_world.demos.cli import main
sys.exit(main(["serve", *sys.argv[1:]]))
"""


def test_a_server_of_another_version_is_told_and_the_right_one_is_played_with():
    server = ServerProcess(["--fake"], program=[sys.executable, "-c", LATER_VERSION])
    try:
        address = server.wait_ready(20)
        with pytest.raises(ServerError, match=r"speaks version 1: this server speaks 2") as error:
            timed(RemoteSession, address)
        assert error.value.code == "version"
        stream = WorldStream(address)
        stream.start()
        with pytest.raises(ServerError, match="this server speaks 2"):
            timed(show, stream, 1)
        stream.close()
    finally:
        server.close()
    with_ours = WorldServer(WorldEngine(FakeWorldModel()), address)
    stop = threading.Event()
    serving = threading.Thread(target=with_ours.serve, args=(stop.is_set,))
    serving.start()
    session = timed(RemoteSession, address)
    assert timed(session.reset).index == 0
    session.close()
    stop.set()
    serving.join()
    with_ours.close()


def test_a_port_is_taken_until_it_is_free(served):
    first = WorldServer(WorldEngine(FakeWorldModel()))
    with served(first) as address:
        with pytest.raises(UserError, match=f"{address} is in use: choose another port"):
            WorldServer(WorldEngine(FakeWorldModel()), address)
        session = RemoteSession(address)
        assert session.reset().index == 0, "who has it serves on"
        session.close()
    with served(timed(WorldServer, WorldEngine(FakeWorldModel()), address)):
        session = timed(RemoteSession, address)
        assert timed(session.reset).index == 0
        session.close()


@pytest.fixture
def full_disk(monkeypatch, tmp_path):
    """Videos are written to a device that is full, until told otherwise; the tests run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    opened = VideoWriter._open

    def open_on_full(writer, card):
        writer.path.with_name(writer.path.name + ".part").symlink_to("/dev/full")
        opened(writer, card)

    monkeypatch.setattr(VideoWriter, "_open", open_on_full)
    yield lambda: monkeypatch.setattr(VideoWriter, "_open", opened)


@needs_full_device
def test_a_full_disk_ends_a_headless_recording_in_one_line_and_leaves_no_file(full_disk, tmp_path):
    head, video = Recording("fake", "maze", 2, "float32"), tmp_path / "walk.mp4"
    session, _ = WorldEngine(FakeWorldModel()).open(seed=2)

    def record():
        return play_headless(session, RandomController(FAKE_CARD.buttons, 0), head, chunks=4, video=video)

    with pytest.raises(UserError, match=r"cannot record to .*walk\.mp4: No space left on device"):
        record()
    assert list(tmp_path.iterdir()) == []
    full_disk()
    assert record().frames == 16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walk.json", "walk.mp4", "walk.png"]


@needs_full_device
def test_a_full_disk_ends_the_video_and_not_the_game(full_disk, monkeypatch, tmp_path):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(play, "make_controller", lambda plan, card: None)
    parser = argparse.ArgumentParser()
    play.add_arguments(parser)
    words = ["--connect", "tcp://127.0.0.1:1", "--seconds", "1", "--record", "walk.mp4"]
    plan = play.check(parser.parse_args(words))
    link = Link(WorldStream, scene=None, seed=0, server=ServerProcess(["--fake"]), card=FAKE_CARD)
    began = time.monotonic()
    try:
        with pytest.raises(UserError, match=r"cannot record to walk\.mp4: No space left on device"):
            play.play_in_window(plan, link)
        assert link.stream._last.chunk >= 3 and time.monotonic() - began > 1, "played for all of its second"
    finally:
        link.close()
    assert list(tmp_path.iterdir()) == []


@needs_full_device
def test_a_full_disk_keeps_the_old_save(tmp_path):
    path = tmp_path / "quick.world"
    write_bytes(path, b"old")
    (tmp_path / "quick.world.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        write_bytes(path, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["quick.world"] and path.read_bytes() == b"old"
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
