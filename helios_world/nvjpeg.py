"""JPEGs made on the GPU that the frames are on, by nvJPEG as torchvision brings it: only the JPEGs leave it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor


class DeviceFrames:
    """uint8 frames (..., height, width, 3) that stay where they are until somebody looks at them.

    numpy takes it for an array, and makes a copy in this process's memory then; `bridge.codecs` asks for JPEGs instead.
    """

    def __init__(self, frames: Tensor):
        if frames.is_cuda:
            torch.cuda.synchronize(frames.device)  # who times a step times the work, not the asking for it
        self._frames = frames

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._frames.shape)

    def __iter__(self) -> Iterator[DeviceFrames]:
        return map(DeviceFrames, self._frames)

    def __getitem__(self, index: Any) -> DeviceFrames:
        return DeviceFrames(self._frames[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._frames.cpu().numpy(), dtype)

    def jpegs(self, quality: int) -> list[bytes]:
        """Each frame of (frames, height, width, 3) as a JPEG; 4:4:4 where nvJPEG makes it."""
        from torchvision.io import encode_jpeg

        planes = self._frames.permute(0, 3, 1, 2).contiguous()
        return [jpeg.cpu().numpy().tobytes() for jpeg in encode_jpeg(list(planes), quality)]


def has_nvjpeg(device: torch.device) -> bool:
    """Whether `device` is a GPU, and a torchvision is there that makes JPEGs on it."""
    if device.type != "cuda":
        return False
    try:
        DeviceFrames(torch.zeros(1, 16, 16, 3, dtype=torch.uint8, device=device)).jpegs(90)
    except (ImportError, RuntimeError):
        return False
    return True


def keep_frames(model: Any) -> None:
    """Lets the frames of a generator stay on its GPU, if JPEGs can be made there; for a server alone."""
    if has_nvjpeg(model.device):
        model.deliver = DeviceFrames
