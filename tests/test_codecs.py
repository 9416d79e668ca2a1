"""Frames come out of every codec as they went in; what is damaged, foreign or too large is a ProtocolError."""

import argparse
import dataclasses
import math
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helios_world.action import Action
from helios_world.bridge import codecs, h264, protocol
from helios_world.bridge.client import RemoteSession
from helios_world.bridge.codecs import pack_frames, unpack_frames
from helios_world.bridge.server import WorldServer
from helios_world.demos import serve
from helios_world.engine import WorldEngine
from helios_world.errors import MissingExtra, ProtocolError, UserError
from helios_world.testing import FakeWorldModel

LEAST_PSNR = {"raw": math.inf, "jpeg": 38, "h264": 36}


def picture(count, height, width):
    """Frames of soft colours that move."""
    y, x = np.mgrid[:height, :width] / 24
    moved = np.arange(count)[:, None, None] / 8
    waves = [np.sin(x + moved) * np.cos(y), np.cos(x - y + moved), np.sin(y + 2 * moved) * np.ones_like(x)]
    return np.clip(127.5 + 120 * np.stack(waves, -1), 0, 255).astype(np.uint8)


def message(frames, codec):
    lengths, payload = pack_frames(frames, codec)
    return protocol.Frames(0, 1, 2, 0.0, frames.shape, codec, lengths, 0.1, 1.0, payload)


def round_trip(frames, codec):
    return unpack_frames(protocol.decode(protocol.encode(message(frames, codec))))


def psnr(x, y):
    error = np.square(x.astype(float) - y).mean()
    return 10 * math.log10(255**2 / error) if error else math.inf


def blobs(frames):
    lengths, payload = pack_frames(frames, "h264")
    ends = np.cumsum(lengths)
    return [payload[end - length : end] for end, length in zip(ends, lengths, strict=True)]


@pytest.fixture
def without_av(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)


def test_every_codec_can_be_used_here():
    assert codecs.available() == protocol.CODECS == tuple(codecs._CODECS)


@pytest.mark.parametrize("shape", [(4, 128, 160), (1, 64, 80), (3, 35, 51), (33, 48, 64), (2, 1, 1)], ids=str)
@pytest.mark.parametrize("codec", protocol.CODECS)
def test_frames_travel_exactly_or_nearly(codec, shape):
    frames = picture(*shape)
    got = round_trip(frames, codec)
    assert got.shape == frames.shape and got.dtype == np.uint8 and got.flags.writeable
    assert psnr(got, frames) >= LEAST_PSNR[codec]


@pytest.mark.parametrize("codec", protocol.CODECS)
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (9, 99, 200)])
def test_colours_come_out_right(codec, colour):
    got = round_trip(np.full((2, 32, 48, 3), colour, np.uint8), codec)
    assert np.abs(got.astype(int) - colour).max() <= 5


def test_a_chunk_needs_no_other_and_is_the_same_every_time():
    first, second = picture(4, 32, 48), picture(8, 32, 48)[4:]
    alone = round_trip(second, "h264")
    round_trip(first, "h264")
    np.testing.assert_array_equal(round_trip(second, "h264"), alone)
    assert message(first, "h264") == message(first, "h264")


def test_h264_is_smaller_than_jpeg_and_jpeg_than_raw():
    frames = picture(16, 128, 160)
    raw, jpeg, h264 = (len(pack_frames(frames, codec)[1]) for codec in protocol.CODECS)
    assert 2 * h264 < jpeg < raw / 2


# Hostile bytes


@pytest.mark.parametrize("shape", [(1, 16, 24, 3), (1, 48, 48, 3), (1, 2048, 2048, 3)], ids=str)
@pytest.mark.parametrize("codec", ["jpeg", "h264"])
def test_another_size_is_refused_before_anything_is_decoded(codec, shape, monkeypatch):
    sent = dataclasses.replace(message(picture(1, 32, 48), codec), shape=shape)
    monkeypatch.setattr(codecs, "decode_jpeg", None)
    monkeypatch.setattr(av, "CodecContext", None)
    with pytest.raises(ProtocolError, match=r"JPEG has another size|H\.264 has frames of"):
        unpack_frames(sent)


@pytest.mark.parametrize("codec", ["jpeg", "h264"])
def test_what_is_no_picture_is_refused(codec):
    sent = message(picture(2, 32, 48), codec)
    with pytest.raises(ProtocolError, match=r"JPEG|H\.264"):
        unpack_frames(dataclasses.replace(sent, payload=bytes(len(sent.payload))))


DAMAGED = {codec: message(picture(3, 32, 48), codec) for codec in ("jpeg", "h264")}


@pytest.mark.parametrize("codec", DAMAGED)
@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damage_gives_frames_or_a_protocol_error(codec, data):
    sent = DAMAGED[codec]
    payload, lengths = bytearray(sent.payload), list(sent.lengths)
    for _ in range(data.draw(st.integers(0, 4))):
        payload[data.draw(st.integers(0, min(80, len(payload) - 1)))] = data.draw(st.integers(0, 255))
        payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, lengths[-1]))
    if cut:
        payload, lengths[-1] = payload[:-cut], lengths[-1] - cut
    moved = data.draw(st.integers(0, lengths[1]))
    lengths[0], lengths[1] = lengths[0] + moved, lengths[1] - moved
    try:
        got = unpack_frames(dataclasses.replace(sent, payload=bytes(payload), lengths=tuple(lengths)))
    except ProtocolError as error:
        assert "\n" not in str(error)
    else:
        assert got.shape == sent.shape


def test_damage_is_not_talked_about_on_the_terminal(capfd):
    first, *rest = blobs(picture(3, 32, 48))
    for cut in range(0, len(first), 20):
        with pytest.raises(ProtocolError):
            h264.decode([first[:-cut] if cut else b"", *rest], (3, 32, 48, 3))
    assert capfd.readouterr() == ("", "")


def test_only_the_units_that_are_written_are_read():
    first, second, third = blobs(picture(3, 32, 48))
    wrong = [
        [second, third, first],  # no IDR frame first
        [first, first, third],  # parameter sets once more: they could ask for another size
        [first, second + third, third],  # two pictures in one frame
        [first, b"", third],
        [first, b"\1" + second, third],
        [first, second, b"\0\0\1" * 100_000],
        [b"\0\0\0\1\x06\x05\xff" + first, second, third],  # a message to the decoder
    ]
    for damaged in wrong:
        with pytest.raises(ProtocolError):
            h264.decode(damaged, (3, 32, 48, 3))
    with pytest.raises(ProtocolError, match="says 3"):
        h264.decode([first, second], (3, 32, 48, 3))


def encoded_elsewhere(height, width, **options):
    """The first blob of another encoder's H.264."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, options.pop("pix_fmt", "yuv420p")
    encoder.time_base, encoder.options = Fraction(1, 25), {"tune": "zerolatency", **options}
    frame = av.VideoFrame.from_ndarray(picture(1, height, width)[0], format="rgb24").reformat(format=encoder.pix_fmt)
    frame.pts = 0
    return bytes(encoder.encode(frame)[0])


@pytest.mark.parametrize("size", [(2, 2), (16, 16), (34, 50), (384, 640), (18, 4096)], ids=str)
@pytest.mark.parametrize("profile", ["baseline", "main", "high"])
def test_the_size_is_read_from_what_any_encoder_writes(profile, size):
    (sps,) = (u for u in h264._units(encoded_elsewhere(*size, profile=profile)) if u[0] & 31 == 7)
    assert h264._read_size(sps) == size


@pytest.mark.parametrize(
    "options",
    [{"pix_fmt": "yuv422p"}, {"pix_fmt": "yuv444p"}, {"pix_fmt": "yuv420p10le"}, {"x264-params": "interlaced=1"}],
    ids=str,
)
def test_other_kinds_of_h264_are_refused(options):
    (sps,) = (u for u in h264._units(encoded_elsewhere(64, 64, **options)) if u[0] & 31 == 7)
    with pytest.raises(ProtocolError, match="8 bits"):
        h264._read_size(sps)


def golomb(*numbers):
    return "".join(f"{n + 1:0{2 * (n + 1).bit_length() - 1}b}" for n in numbers)


def parameter_set(bits):
    """A Baseline sequence parameter set with what follows the level as `bits`."""
    bits += "1" + "0" * (-(len(bits) + 1) % 8)
    return b"\x67\x42\xc0\x1f" + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def test_a_margin_cannot_hide_a_large_picture():
    def cropped(width, right):  # width in blocks of 16, the margin in pairs of pixels
        return parameter_set(golomb(0, 0, 2, 1) + "0" + golomb(width - 1, 7) + "11" + "1" + golomb(0, right, 0, 0))

    assert h264._read_size(cropped(10, 7)) == (128, 146)
    with pytest.raises(ProtocolError, match="margin"):
        h264._read_size(cropped(1000, 990 * 8))


def test_a_parameter_set_that_never_ends_is_refused():
    with pytest.raises(ProtocolError, match="cut short"):
        h264._read_size(parameter_set(golomb(0, 0, 2)))
    with pytest.raises(ProtocolError, match="32 bits"):
        h264._read_size(parameter_set("0" * 40))
    with pytest.raises(ProtocolError, match="at most"):
        h264._read_size(bytes(1000))


# Choosing one


def test_without_av_h264_is_neither_offered_nor_read(without_av):
    assert codecs.available() == ("raw", "jpeg")
    with pytest.raises(ProtocolError, match="h264, which cannot be read here"):
        unpack_frames(DAMAGED["h264"])


def test_without_av_h264_cannot_be_asked_for(without_av):
    with pytest.raises(MissingExtra, match=r"pip install 'helios-world\[h264\]'"):
        WorldServer(WorldEngine(FakeWorldModel()), codec="h264")


def test_an_unknown_codec_is_named():
    with pytest.raises(UserError, match="unknown codec 'gif': choose from raw, jpeg, h264"):
        codecs.check_codec("gif")


@pytest.mark.parametrize(("client_has_av", "chosen"), [(True, "h264"), (False, "raw")])
def test_client_and_server_agree_on_what_both_have(served, monkeypatch, client_has_av, chosen):
    came = []
    with served(WorldServer(WorldEngine(FakeWorldModel()), codec="h264")) as address:
        monkeypatch.setattr(h264, "is_installed", lambda: client_has_av)
        monkeypatch.setattr(codecs, "unpack_frames", lambda m: came.append(m.codec) or unpack_frames(m))
        remote = RemoteSession(address)
        got = remote.reset(seed=3).frames
        remote.close()
    expected = WorldEngine(FakeWorldModel()).open(seed=3)[1].frames
    assert came == [chosen] and psnr(got, expected) > (30 if chosen == "h264" else 1000)


def test_a_session_over_h264_plays_like_one_here(served):
    local, _ = WorldEngine(FakeWorldModel()).open(seed=5)
    with served(WorldServer(WorldEngine(FakeWorldModel()), codec="h264")) as address:
        remote = RemoteSession(address)
        remote.reset(seed=5)
        for action in (Action.of("turn_left"), Action(), Action.of("forward")):
            assert psnr(remote.step(action).frames, local.step(action).frames) > 30
        remote.close()


# helios-world serve


def served_codec(monkeypatch, *words):
    """The codec that `helios-world serve` with these words would serve with."""
    found = {}

    def stop(engine, address, **options):
        found.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr("helios_world.bridge.server.WorldServer", stop)
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    with pytest.raises(KeyboardInterrupt):
        serve.run(parser.parse_args(["--fake", "--port", "0", *words]))
    return found["codec"]


@pytest.mark.parametrize(
    ("words", "codec"),
    [
        ([], "raw"),
        (["--host", "localhost"], "raw"),
        (["--host", "0.0.0.0", "--insecure"], "jpeg"),
        (["--codec", "h264"], "h264"),
        (["--codec", "raw", "--host", "0.0.0.0", "--insecure"], "raw"),
    ],
    ids=str,
)
def test_frames_travel_raw_on_this_machine_and_as_jpeg_beyond(monkeypatch, words, codec):
    assert served_codec(monkeypatch, *words) == codec


def test_serving_a_codec_that_is_not_there_fails_before_the_world_is_loaded(monkeypatch, without_av):
    monkeypatch.setattr(serve, "_load", None)
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    with pytest.raises(MissingExtra, match="h264"):
        serve.run(parser.parse_args(["--codec", "h264"]))
