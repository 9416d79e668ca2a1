"""Image and video files as what a world starts from: cut to its shape, brought to its size and frame rate."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from helios_world.card import WorldCard
from helios_world.errors import MissingExtra, UserError
from helios_world.world import Start

if TYPE_CHECKING:
    from PIL.Image import Image

LONGEST_HISTORY = 64  # chunks of a video that are kept beside its first frame: more than any world remembers


def add_start_arguments(parser: argparse.ArgumentParser) -> None:
    """--prompt, --image and --video."""
    group = parser.add_argument_group("what the world starts from")
    group.add_argument("--prompt", help="what is to be seen, in words (world helios; default: the scene's own)")
    group.add_argument("--image", metavar="FILE", type=Path, help="start as if the world had stood still there")
    group.add_argument("--video", metavar="FILE", type=Path, help="go on after its last frame")


def read_start(args: argparse.Namespace, card: WorldCard) -> Start:
    """What the arguments say, fit for `card`. UserError for a file that cannot be read or a video that is too short."""
    image = None if args.image is None else read_image(args.image, card)
    video = None if args.video is None else read_video(args.video, card)
    return Start(image=image, video=video, prompt=args.prompt).check(card)


def read_image(path: Path, card: WorldCard) -> np.ndarray:
    """uint8 (height, width, 3): the largest middle part of the card's shape, scaled."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ModuleNotFoundError:
        raise MissingExtra("pillow", "play") from None
    try:
        with Image.open(path) as image:
            return fit_picture(ImageOps.exif_transpose(image).convert("RGB"), card)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read image {path}: {_reason(error)}") from None


def read_video(path: Path, card: WorldCard) -> np.ndarray:
    """uint8 (frames, height, width, 3) at the card's frame rate: the first frame, and the newest that are needed.

    Memory does not grow with the length of the video.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise MissingExtra("av", "play") from None
    newest: deque[np.ndarray] = deque(maxlen=LONGEST_HISTORY * card.frames_per_chunk)
    first = None
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"cannot read video {path}: it has no pictures")
            frames = ((frame.time or 0.0, frame) for frame in container.decode(video=0))
            for frame in resample(frames, card.fps):
                pixels = fit_picture(frame.to_image(), card)
                first = pixels if first is None else first
                newest.append(pixels)
    except (OSError, av.FFmpegError) as error:
        raise UserError(f"cannot read video {path}: {_reason(error)}") from None
    if first is None:
        raise UserError(f"cannot read video {path}: it has no pictures")
    return np.stack([first, *newest] if len(newest) == newest.maxlen else newest)


def resample(frames: Iterable[tuple[float, object]], fps: float) -> Iterator:
    """The frames seen at 0, 1/fps, 2/fps, ... seconds after the first one, given (seconds, frame) in order."""
    began, index, last = None, 0, None
    for seconds, frame in frames:
        began = seconds if began is None else began
        while last is not None and index / fps < seconds - began - 1e-6:
            yield last
            index += 1
        last, passed = frame, seconds - began
    if last is not None and index / fps <= passed + 1e-6:
        yield last


def fit_picture(image: Image, card: WorldCard) -> np.ndarray:
    """The largest middle part of the card's shape, scaled to it."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(image, (card.width, card.height), Image.Resampling.LANCZOS)).copy()


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
