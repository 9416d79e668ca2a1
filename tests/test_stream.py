"""The real-time stream against a live server: it plays, taps act, and it goes on where it was after a loss."""

import dataclasses
import math
import os
import signal
import time

import numpy as np
import pytest

from helios_world.action import Action
from helios_world.bridge import protocol
from helios_world.bridge.server import WorldServer
from helios_world.bridge.stream import WorldStream
from helios_world.engine import WorldEngine
from helios_world.errors import UserError
from helios_world.testing import FakeWorldModel


def slow_server(**options):
    return WorldServer(WorldEngine(FakeWorldModel(seconds=0.02)), **options)


@pytest.fixture
def stream(served):
    with served(slow_server()) as address:
        stream = WorldStream(address)
        yield stream
        stream.close()


def play(stream, seconds=30.0, until=None):
    """Everything new that was shown until `until(stream)` holds; fails if that takes longer than `seconds`."""
    shown, deadline = [], time.monotonic() + seconds
    while not (until is not None and until(stream)):
        if time.monotonic() > deadline:
            assert until is None, f"waited {seconds} s: {stream.status}, {stream.message!r}"
            break
        now = stream.tick()
        if now is not None and now.is_new:
            shown.append(now)
        stream.wait(0.01)
    return shown


def reached(chunk):
    return lambda stream: stream._last is not None and stream._last.chunk >= chunk


def test_it_plays_every_frame_in_order_and_measures_itself(stream):
    assert stream.status == "connecting" and stream.card is None and stream.tick() is None
    assert math.isnan(stream.stats.key_to_pixels_ms_p95)
    stream.start("hall", 3)
    shown = play(stream, 2.5)
    steps = [(s.chunk, s.index) for s in shown]
    assert steps == [(k // 4, k % 4) for k in range(len(steps))]
    assert len(steps) >= 36
    assert (stream.status, stream.message, stream.card.name) == ("playing", "", "fake")
    stats = stream.stats
    assert stats.shown_fps == pytest.approx(17.5, abs=2.5)
    assert 20 <= stats.chunk_ms_p50 < 40 and 20 <= stats.round_trip_ms_p50 < 60
    assert stats.late_chunks <= 2


def test_it_shows_what_a_local_session_makes(stream):
    stream.start("maze", 7)
    shown = play(stream, until=reached(3))
    session, chunk = WorldEngine(FakeWorldModel()).open("maze", seed=7)
    expected = [*chunk.frames, *session.step().frames, *session.step().frames]
    for got, frame in zip(shown, expected, strict=False):
        np.testing.assert_array_equal(got.pixels, frame)


def test_a_tap_between_two_ticks_acts_and_is_measured(stream):
    stream.start()
    play(stream, until=reached(2))
    stream.hold({"attack"})
    stream.hold(frozenset())
    pressed_in = stream._last.chunk
    shown = play(stream, until=reached(pressed_in + 4))
    brightness = {s.chunk: s.pixels.mean() for s in shown}
    bright = [chunk for chunk, value in brightness.items() if value > brightness[pressed_in + 4] + 20]
    assert len(bright) == 1 and bright[0] <= pressed_in + 2
    assert 20 < stream.stats.key_to_pixels_ms_p50 < 400


def test_a_held_button_stays_held(stream):
    stream.start()
    stream.hold({"attack"})
    shown = play(stream, until=reached(4))
    assert all(s.pixels.mean() > 100 for s in shown if s.chunk >= 2)
    with pytest.raises(UserError, match="jump"):
        stream.hold({"jump"})


def test_the_mouse_turns_by_as_much_as_it_moved(stream):
    stream.start()
    play(stream, until=reached(2))
    before = stream._last.pixels[0, :, 0].astype(int)
    for _ in range(6):
        stream.look(-15.0, 4.0)
    asked_in = stream._last.chunk
    play(stream, until=reached(asked_in + 3))
    after = stream._last.pixels[0, :, 0].astype(int)
    turned = np.roll(before, 9)  # three frames of 30 counts, three pixels each
    assert abs(after - turned).max() < 8, "but for the grain"
    stream.pause(True)
    stream.look(300.0, 0.0)
    stream.pause(False)
    play(stream, until=reached(stream._last.chunk + 2))
    assert abs(stream._last.pixels[0, :, 0].astype(int) - turned).max() < 8, "a pause does not look"


def test_pause_stops_the_world_and_going_on_skips_nothing(stream):
    stream.start()
    shown = play(stream, until=reached(2))
    stream.pause(True)
    assert stream.status == "paused"
    assert not [s for s in play(stream, 2.0) if s.chunk > shown[-1].chunk + 1]
    assert stream.status == "paused"  # pings keep the connection
    stream.pause(False)
    shown += play(stream, until=reached(4))
    steps = [s.chunk * 4 + s.index for s in shown]
    assert steps == list(range(len(steps)))
    assert stream.stats.late_chunks <= 2


def test_save_and_load(stream):
    stream.start("maze", 1)
    play(stream, until=reached(2))
    stream.save()
    play(stream, until=lambda s: s.saves == 1)
    at = stream._last.chunk
    stream.hold({"turn_left"})
    play(stream, until=reached(at + 4))
    stream.hold(())
    stream.load(stream.saved)
    shown = play(stream, until=lambda s: s._last.chunk in (at + 1, at + 2) and s._last.index == 3)
    assert shown[-1].chunk <= at + 2
    session = WorldEngine(FakeWorldModel()).open()[0]
    session.restore(stream.saved)
    while (chunk := session.step()).index != shown[-1].chunk:
        pass
    np.testing.assert_array_equal(shown[-1].pixels, chunk.frames[-1])


def test_a_world_that_was_spoilt_on_its_way_here_is_not_kept_but_asked_for_again(stream, monkeypatch):
    encode, left, good = protocol.encode, [3], []

    def spoil(message):
        header, payload = encode(message)
        if isinstance(message, protocol.Done) and payload:
            left[0] -= 1
            if left[0] >= 0:
                payload = payload[:100] + bytes([payload[100] ^ 0x55]) + payload[101:]
            else:
                good.append(payload)
        return [header, payload]

    monkeypatch.setattr(protocol, "encode", spoil)
    stream.start("maze", 1)
    play(stream, until=reached(1))
    stream.save()
    play(stream, until=lambda s: left[0] < 0 and s.saves == 1)
    play(stream, until=lambda s: hasattr(s._origin, "snapshot"))
    assert stream.saved in good and stream._origin.snapshot in good
    assert stream.status == "playing"


def test_a_damaged_save_leaves_the_world_alone(stream):
    stream.start()
    play(stream, until=reached(1))
    stream.load(b"nonsense")
    play(stream, until=lambda s: "snapshot" in s.message)
    at = stream._last.chunk
    play(stream, until=reached(at + 2))
    assert stream.status == "playing"


def test_reset_starts_a_new_world(stream):
    stream.start("maze", 1)
    play(stream, until=reached(2))
    stream.reset("hall", 2)
    shown = play(stream, until=lambda s: s._last.chunk == 1)
    first = next(s for s in shown if s.chunk == 0)
    expected = WorldEngine(FakeWorldModel()).open("hall", seed=2)[1]
    np.testing.assert_array_equal(first.pixels, expected.frames[first.index])


def test_a_first_start_that_is_refused_raises(stream):
    stream.start("moon")
    with pytest.raises(UserError, match="moon"):
        play(stream, 5, until=lambda s: False)
    with pytest.raises(UserError, match="seed"):
        stream.start(seed=-1)


def test_a_full_server_is_waited_for(served):
    with served(slow_server(max_sessions=1)) as address:
        first = WorldStream(address)
        first.start()
        play(first, until=reached(1))
        second = WorldStream(address)
        second.start()
        play(second, until=lambda s: "taken" in s.message)
        assert second.status == "connecting"
        first.close()
        play(second, 5, until=reached(1))
        second.close()


def test_a_killed_server_is_noticed_and_the_world_goes_on_where_it_was(process):
    stream = WorldStream(process.wait_ready())
    stream.start("maze", 5)
    stream.hold({"turn_left"})
    before = play(stream, until=reached(5))
    os.kill(process.pid, signal.SIGKILL)
    began = time.monotonic()
    play(stream, 2, until=lambda s: s.status == "lost")
    assert time.monotonic() - began < 0.2
    assert "lost" in stream.message
    picture = stream.tick()
    np.testing.assert_array_equal(picture.pixels, before[-1].pixels)  # the last frame stays
    process.restart()
    process.wait_ready(20)
    back = time.monotonic()
    after = play(stream, 5, until=lambda s: s.status == "playing" and s._last.is_new)
    took = time.monotonic() - back
    assert took < 1.0, f"resumed {took:.2f} s after the server was back"
    at = stream._last.chunk
    assert before[-1].chunk - 1 <= at <= before[-1].chunk + 2
    after += play(stream, until=reached(at + 2))
    # The world itself went on: the fake's heading is what all chunks since the start have turned it to.
    session, _ = WorldEngine(FakeWorldModel()).open("maze", seed=5)
    while (chunk := session.step(Action.of("turn_left"))).index != after[-1].chunk:
        pass
    np.testing.assert_array_equal(after[-1].pixels, chunk.frames[after[-1].index])
    stream.close()


@pytest.mark.parametrize("spoilt", [1, 100])
def test_a_kept_world_that_the_line_spoilt_is_sent_again(process, monkeypatch, spoilt):
    stream, sent = WorldStream(process.wait_ready()), []
    stream.start("maze", 5)
    play(stream, until=reached(5))
    os.kill(process.pid, signal.SIGKILL)
    play(stream, 2, until=lambda s: s.status == "lost")
    send = stream._send

    def spoil(message):
        if isinstance(message, protocol.Restore):
            sent.append(message)
            if len(sent) <= spoilt:
                message = dataclasses.replace(message, payload=message.payload[:100])
        return send(message)

    monkeypatch.setattr(stream, "_send", spoil)
    process.restart()
    process.wait_ready(20)
    if spoilt == 1:
        play(stream, 5, until=lambda s: s.status == "playing" and s._last.is_new)
        assert len(sent) == 2 and stream._last.chunk >= 4
    else:
        with pytest.raises(UserError, match="snapshot is damaged"):
            play(stream, 10, until=lambda s: False)
        assert len(sent) == 4, "three more tries, then it is given up"
    stream.close()


def test_a_stopped_server_is_lost_and_its_world_is_taken_up_again(process):
    stream = WorldStream(process.wait_ready())
    stream.start("maze", 5)
    play(stream, until=reached(2))
    os.kill(process.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        play(stream, 4, until=lambda s: s.status == "lost")
        assert time.monotonic() - began < 2.5
        at = stream._last.chunk
    finally:
        os.kill(process.pid, signal.SIGCONT)
    began = time.monotonic()
    play(stream, 4, until=lambda s: s.status == "playing")
    assert time.monotonic() - began < 1.0
    play(stream, until=reached(at + 2))
    stream.close()


def test_a_server_that_took_long_over_a_chunk_is_not_lost_any_more(served, monkeypatch):
    model = FakeWorldModel(seconds=0.02)
    with served(WorldServer(WorldEngine(model))) as address:
        stream = WorldStream(address)
        stream.start("maze", 5)
        play(stream, until=reached(2))
        line = stream._line
        monkeypatch.setattr(stream, "_limit", lambda most: 60.0)  # as after answers that took long: it keeps its line
        model.seconds = 2.5
        play(stream, 4, until=lambda s: s.status == "lost")
        at, why, model.seconds = stream._last.chunk, stream.message, 0.02
        play(stream, 5, until=reached(at + 2))
        assert why.startswith("no answer from ") and stream._line is line
        assert (stream.status, stream.message) == ("playing", "")
        stream.close()


def test_it_waits_for_a_server_that_is_not_there_yet(served):
    with served(slow_server()) as address:
        pass
    stream = WorldStream(address)
    stream.start()
    play(stream, 2.0)
    assert stream.status == "connecting" and address in stream.message
    with served(slow_server(address=address)):
        play(stream, 3, until=reached(1))
    stream.close()
