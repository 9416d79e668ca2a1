"""Chunks as H.264 and back, by PyAV: each chunk begins with an IDR frame and needs nothing that came before it.

What is written is narrow on purpose, so that what is read can be checked before FFmpeg sees it: Annex B; the first
frame is SPS, PPS and one IDR slice, every other one slice; 8 bits, 4:2:0, progressive, BT.709 in full range. Sizes are
rounded up to even ones by repeating the last row and column, which the reader cuts off.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from helios_world.errors import ProtocolError
from helios_world.world import Frames

QUALITY = "20"  # x264's crf
_START = b"\0\0\0\1"
_SLICE, _IDR, _SPS, _PPS = 1, 5, 7, 8  # nal_unit_type
_PROFILES, _HIGH = (66, 77, 100), 100  # Baseline, Main, High
_LONGEST_SPS = 256  # bytes; ours has 30
_FULL_RANGE, _BT709 = 2, 1  # as FFmpeg numbers them


def is_installed() -> bool:
    """Whether PyAV is there, and can read and write H.264."""
    try:
        import av
    except ImportError:
        return False
    return {"libx264", "h264"} <= av.codecs_available


def encode(frames: Frames) -> list[bytes]:
    """One blob for each of uint8 (frames, height, width, 3)."""
    import av
    from av.video.reformatter import VideoReformatter

    count, height, width, _ = frames.shape
    even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), "edge")
    encoder = _encoder(count, *even.shape[1:3])
    to_yuv = {"format": "yuv420p", "dst_colorspace": "ITU709", "src_color_range": "JPEG", "dst_color_range": "JPEG"}
    reformatter, blobs = VideoReformatter(), []
    for index, pixels in enumerate(even):
        frame = reformatter.reformat(av.VideoFrame.from_ndarray(pixels, format="rgb24"), **to_yuv)
        frame.pts = index
        (packet,) = encoder.encode(frame)  # without lookahead every frame comes out at once
        units = [unit for unit in _units(bytes(packet)) if unit[0] & 31 in (_SLICE, _IDR, _SPS, _PPS)]  # no x264 banner
        blobs.append(b"".join(_START + unit for unit in units))
    return blobs


def decode(blobs: list[bytes], shape: tuple[int, ...]) -> Frames:
    """Frames of `shape` from as many blobs. ProtocolError for anything but what `encode` may have made."""
    import av
    from av.video.reformatter import VideoReformatter

    _, height, width, _ = shape
    for index, blob in enumerate(blobs):
        _check(blob, index, shape)
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1  # more would hold frames back
    decoder.options = {"err_detect": "explode"}
    to_rgb = {"format": "rgb24", "src_colorspace": "ITU709", "src_color_range": "JPEG"}
    reformatter, frames, filled = VideoReformatter(), np.empty(shape, np.uint8), 0
    try:
        for packet in (*map(av.Packet, blobs), None):
            for frame in decoder.decode(packet):
                if frame.is_corrupt or filled == len(frames) or (frame.height, frame.width) != _even(height, width):
                    raise ProtocolError("H.264 is not what its message says")
                frames[filled] = reformatter.reformat(frame, **to_rgb).to_ndarray()[:height, :width]
                filled += 1
    except (av.FFmpegError, ValueError) as error:
        raise ProtocolError(f"H.264 cannot be read: {error}") from None
    if filled != len(frames):
        raise ProtocolError(f"H.264 has {filled} frames: its message says {len(frames)}")
    return frames


def _encoder(count: int, height: int, width: int) -> Any:
    import av

    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(25), Fraction(1, 25)  # of no account: a message says when to show
    encoder.color_range, encoder.colorspace = _FULL_RANGE, _BT709
    encoder.color_primaries = encoder.color_trc = _BT709
    encoder.thread_count = 1  # more would cut each frame into slices
    options = {"preset": "ultrafast", "tune": "zerolatency", "crf": QUALITY}
    encoder.options = {**options, "g": str(count), "bf": "0", "sc_threshold": "0"}
    return encoder


def _even(height: int, width: int) -> tuple[int, int]:
    return height + height % 2, width + width % 2


def _check(blob: bytes, index: int, shape: tuple[int, ...]) -> None:
    """ProtocolError unless `blob` is framed as `encode` does it, for frames of this size."""
    units = _units(blob)
    if [unit[0] & 31 for unit in units] != ([_SLICE] if index else [_SPS, _PPS, _IDR]):
        raise ProtocolError(f"H.264 frame {index} does not consist of the units that it must")
    if not index:
        size, wanted = _read_size(units[0]), _even(*shape[1:3])
        if size != wanted:
            raise ProtocolError(f"H.264 has frames of {size}: must be {wanted}")


def _units(blob: bytes) -> list[bytes]:
    """The NAL units of Annex B bytes, at most five."""
    empty, *units = (unit.rstrip(b"\0") for unit in blob.split(b"\0\0\1", 5))
    if empty or not all(units):
        raise ProtocolError("H.264 is not in Annex B format")
    return units


def _read_size(sps: bytes) -> tuple[int, int]:
    """Height and width that a sequence parameter set asks memory for; ProtocolError beyond what `encode` writes."""
    if len(sps) > _LONGEST_SPS:
        raise ProtocolError(f"H.264 parameter set has {len(sps)} bytes: at most {_LONGEST_SPS}")
    bits = _Bits(sps[1:].replace(b"\0\0\3", b"\0\0"))
    profile, _, _ = bits.take(8), bits.take(16), bits.golomb()
    plain = profile in _PROFILES
    if profile == _HIGH:  # 4:2:0, 8 bits, 8 bits, not lossless, no scaling matrices
        plain = (bits.golomb(), bits.golomb(), bits.golomb(), bits.take(2)) == (1, 0, 0, 0)
    bits.golomb()  # log2_max_frame_num
    order = bits.golomb()  # pic_order_cnt_type
    if order == 0:
        bits.golomb()
    bits.golomb(), bits.take(1)  # reference frames, gaps in numbers
    width, height = 16 * bits.golomb() + 16, 16 * bits.golomb() + 16
    progressive, _ = bits.take(1), bits.take(1)
    left, right, top, bottom = (2 * bits.golomb() for _ in range(4)) if bits.take(1) else (0, 0, 0, 0)
    if not plain or order not in (0, 2) or not progressive or left + right >= 16 or top + bottom >= 16:
        raise ProtocolError("H.264 is not 8 bits, 4:2:0, progressive and without a margin")
    return height - top - bottom, width - left - right


class _Bits:
    """Reads bytes bit by bit. ProtocolError at their end."""

    def __init__(self, data: bytes):
        self._bits, self._at = "".join(f"{byte:08b}" for byte in data), 0

    def take(self, count: int) -> int:
        self._at += count
        if self._at > len(self._bits):
            raise ProtocolError("H.264 parameter set is cut short")
        return int(self._bits[self._at - count : self._at], 2)

    def golomb(self) -> int:
        """An Exp-Golomb number, as H.264's 9.1 has it; at most 32 bits."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 31:
                raise ProtocolError("H.264 parameter set has a number over 32 bits")
        return (1 << zeros) - 1 + (self.take(zeros) if zeros else 0)
