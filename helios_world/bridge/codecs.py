"""How the frames of a message travel: as they are, as JPEGs, or as H.264. No socket, no clock.

`available` says what can be used with what is installed: a client offers that in its Hello, a server chooses from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from simplejpeg import decode_jpeg, decode_jpeg_header, encode_jpeg

from helios_world.bridge import h264
from helios_world.bridge.protocol import CODECS, Frames
from helios_world.errors import MissingExtra, ProtocolError, check_name
from helios_world.world import Frames as FrameArray

JPEG_QUALITY = 90


class Codec(NamedTuple):
    """One blob per frame; `raw` alone has a single one for all."""

    encode: Callable[[FrameArray], list[bytes]]
    decode: Callable[[list[bytes], tuple[int, ...]], FrameArray]  # (blobs, shape); ProtocolError for damaged ones


def available() -> tuple[str, ...]:
    """The codecs that can be read and written here, plainest first."""
    return tuple(name for name in CODECS if name != "h264" or h264.is_installed())


def check_codec(name: str) -> str:
    """`name`, or UserError if it is no codec or not installed."""
    if check_name("codec", name, CODECS) not in available():
        raise MissingExtra("av with libx264", "h264")
    return name


def pack_frames(frames: FrameArray, codec: str) -> tuple[tuple[int, ...], bytes]:
    """`Frames.lengths` and `Frames.payload` of uint8 (frames, height, width, 3), in a codec that is available.

    Frames that are on a GPU and can make JPEGs there (`nvjpeg.DeviceFrames`) are asked for them.
    """
    if codec == "jpeg" and hasattr(frames, "jpegs"):
        blobs = frames.jpegs(JPEG_QUALITY)
    else:
        blobs = _CODECS[codec].encode(np.ascontiguousarray(frames))
    return () if codec == "raw" else tuple(map(len, blobs)), b"".join(blobs)


def unpack_frames(message: Frames) -> FrameArray:
    """The frames of a decoded `message`, uint8 (frames, height, width, 3).

    Raises:
        ProtocolError: damaged, of another size than the message says, or in a codec that is not available.
    """
    if message.codec == "h264" and not h264.is_installed():
        raise ProtocolError(f"frames came as {message.codec}, which cannot be read here")
    blobs, offset = [], 0
    for length in message.lengths or (len(message.payload),):
        blobs.append(message.payload[offset : offset + length])
        offset += length
    return _CODECS[message.codec].decode(blobs, message.shape)


def _encode_raw(frames: FrameArray) -> list[bytes]:
    return [frames.tobytes()]


def _decode_raw(blobs: list[bytes], shape: tuple[int, ...]) -> FrameArray:
    return np.frombuffer(blobs[0], np.uint8).reshape(shape).copy()


def _encode_jpeg(frames: FrameArray) -> list[bytes]:
    return [encode_jpeg(frame, JPEG_QUALITY, "RGB", "444", fastdct=True) for frame in frames]


def _decode_jpeg(blobs: list[bytes], shape: tuple[int, ...]) -> FrameArray:
    frames = np.empty(shape, np.uint8)
    for frame, blob in zip(frames, blobs, strict=True):
        try:
            if decode_jpeg_header(blob)[:2] != frame.shape[:2]:  # before decoding: the header alone decides the memory
                raise ProtocolError(f"JPEG has another size than {frame.shape[:2]}")
            frame[:] = decode_jpeg(blob, "RGB")
        except ValueError as error:
            raise ProtocolError(f"JPEG cannot be read: {error}") from None
    return frames


_CODECS = {
    "raw": Codec(_encode_raw, _decode_raw),
    "jpeg": Codec(_encode_jpeg, _decode_jpeg),
    "h264": Codec(h264.encode, h264.decode),
}
