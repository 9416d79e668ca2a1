"""Frames that stay on their device: the same pictures for whoever looks, and JPEGs for a server."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from simplejpeg import decode_jpeg, decode_jpeg_header, encode_jpeg

from helios_world.action import Action
from helios_world.bridge.client import RemoteSession
from helios_world.bridge.codecs import JPEG_QUALITY, pack_frames
from helios_world.bridge.server import WorldServer
from helios_world.engine import WorldEngine
from helios_world.generator import load_generator
from helios_world.nvjpeg import DeviceFrames, has_nvjpeg, keep_frames

needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")]


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), np.uint8)


@pytest.fixture
def torchvision(monkeypatch):
    """A stand-in that makes JPEGs of tensors anywhere."""

    def encode(pictures, quality):
        arrays = [np.ascontiguousarray(picture.permute(1, 2, 0).numpy()) for picture in pictures]
        jpegs = [bytearray(encode_jpeg(array, quality, "RGB", "444")) for array in arrays]
        return [torch.frombuffer(jpeg, dtype=torch.uint8) for jpeg in jpegs]

    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchvision.io", SimpleNamespace(encode_jpeg=encode))


def test_whoever_looks_sees_the_frames(frames):
    kept = DeviceFrames(torch.from_numpy(frames))
    assert kept.shape == frames.shape
    np.testing.assert_array_equal(np.asarray(kept), frames)
    np.testing.assert_array_equal(np.stack([np.asarray(frame) for frame in kept]), frames)
    np.testing.assert_array_equal(np.asarray(kept[2]), frames[2])
    assert pack_frames(kept, "raw") == pack_frames(frames, "raw")
    assert pack_frames(kept, "h264") == pack_frames(frames, "h264")


def test_jpegs_are_made_by_torchvision(frames, torchvision):
    lengths, payload = pack_frames(DeviceFrames(torch.from_numpy(frames)), "jpeg")
    expected = [encode_jpeg(frame, JPEG_QUALITY, "RGB", "444") for frame in frames]
    assert (lengths, payload) == (tuple(map(len, expected)), b"".join(expected))


def test_without_a_gpu_nothing_changes(tiny_pack, torchvision):
    model = load_generator(str(tiny_pack))
    keep_frames(model)
    assert not has_nvjpeg(torch.device("cpu")) and isinstance(model.reset("maze")[1], np.ndarray)


def test_a_world_whose_frames_stay_plays_the_same(tiny_pack, served):
    plain, keeping = (WorldEngine(load_generator(str(tiny_pack), dtype="float32")) for _ in range(2))
    keeping.model.deliver = DeviceFrames
    local, first = plain.open(seed=2)
    with served(WorldServer(keeping)) as address:
        remote = RemoteSession(address)
        np.testing.assert_array_equal(remote.reset(seed=2).frames, first.frames)
        for action in (Action(), Action.of("forward")):
            difference = remote.step(action).frames.astype(int) - local.step(action).frames
            assert np.abs(difference).max() <= 1  # a server works ahead, which rounds elsewhere
        remote.close()


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=needs_gpu)])
def test_a_gpu_makes_jpegs_like_ours(device):
    pytest.importorskip("torchvision")
    assert has_nvjpeg(torch.device(device))
    y, x = np.mgrid[:384, :640] / 40
    waves = [np.sin(x), np.cos(y), np.sin(x + y)]
    frames = np.stack([np.roll((127.5 + 120 * np.stack(waves, -1)).astype(np.uint8), 8 * k, 1) for k in range(33)])
    lengths, payload = pack_frames(DeviceFrames(torch.from_numpy(frames).to(device)), "jpeg")
    for frame, end, length in zip(frames, np.cumsum(lengths), lengths, strict=True):
        jpeg = payload[end - length : end]
        assert decode_jpeg_header(jpeg) == (384, 640, "YCbCr", "444")
        assert np.abs(decode_jpeg(jpeg, "RGB").astype(int) - frame).mean() < 3
