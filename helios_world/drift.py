"""How far a world has drifted from where it began: colour, contrast and sharpness, and a cautious way back.

Read-outs are of RGB frames and change nothing. The correction is of latents, and off unless asked for.
Shapes: ... any leading axes, H W frame size; latents (C, T, H, W).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from helios_world.errors import UserError

FLAT = 1e-3  # grey levels added to both sides of a ratio, so that two flat pictures compare as equal
GAIN = 2.0  # the correction changes contrast at most by this factor, up or down


def sharpness(frames: np.ndarray) -> np.ndarray:
    """Mean absolute horizontal gradient of grey, per frame of (..., H, W, 3), in 0..255."""
    return np.abs(np.diff(_grey(frames), axis=-1)).mean(axis=(-2, -1))


def contrast(frames: np.ndarray) -> np.ndarray:
    """Standard deviation of grey, per frame."""
    return _grey(frames).std(axis=(-2, -1))


def brightness(frames: np.ndarray) -> np.ndarray:
    """Mean of grey, per frame."""
    return _grey(frames).mean(axis=(-2, -1))


def colour(frames: np.ndarray) -> np.ndarray:
    """How far red, green and blue are from grey: their mean deviation from it, per frame, in 0..255."""
    return frames.std(axis=-1, dtype=np.float32).mean(axis=(-2, -1))


LOOKS = {"sharpness": sharpness, "contrast": contrast, "brightness": brightness, "colour": colour}


@dataclass(frozen=True, slots=True)
class Drift:
    """A chunk beside the anchor.

    Attributes:
        colour: distance of the mean red, green and blue, averaged over the three, in 0..255; 0 at the anchor.
        contrast, sharpness: as ratios; 1 at the anchor, less where the picture fades or blurs.
    """

    colour: float
    contrast: float
    sharpness: float

    def to_dict(self) -> dict[str, float]:
        """As JSON or msgpack can carry it."""
        return asdict(self)


def measure_drift(frames: np.ndarray, anchor: np.ndarray) -> Drift:
    """The drift of a chunk (or of its last frame: cheaper) from the frame or frames that the world began with.

    Both are uint8 (..., H, W, 3). A new scene is not told apart from drift.
    """
    for name, pictures in (("frames", frames), ("anchor", anchor)):
        if np.ndim(pictures) < 3 or np.shape(pictures)[-1] != 3 or not np.size(pictures):
            raise UserError(f"{name} have shape {np.shape(pictures)}: must be (..., height, width, 3)")
    means = [pictures.mean(axis=tuple(range(pictures.ndim - 1)), dtype=np.float64) for pictures in (frames, anchor)]
    ratios = [
        (float(look(frames).mean()) + FLAT) / (float(look(anchor).mean()) + FLAT) for look in (contrast, sharpness)
    ]
    return Drift(float(np.abs(means[0] - means[1]).mean()), *ratios)


def correct_history(history_CTHW: Any, anchor_CTHW: Any, strength: float = 0.0) -> Any:
    """History latents for the next chunk, their mean and contrast per channel moved towards those of the anchor.

    For what the network is given, not for what is kept or shown: the state holds the history as it was made, so that
    the correction does not add up, and frames that are on the screen are not touched. There is no randomness in it.
    Latent frames that are all zero stand for "no past" and stay so.

    Args:
        history_CTHW, anchor_CTHW: numpy arrays or torch tensors. The first latent of a chunk has a lower contrast than
            the others: where there is a choice, the anchor is the whole first chunk.
        strength: 0 returns the history itself, 1 moves it all the way.
    """
    if not 0 <= strength <= 1:
        raise UserError(f"strength is {strength}: must be 0 to 1")
    if strength == 0:
        return history_CTHW
    past_T = (history_CTHW != 0).any(axis=3).any(axis=2).any(axis=0)
    if not past_T.any():
        return history_CTHW
    past = history_CTHW[:, past_T]
    mean, deviation = _per_channel(past)
    wanted_mean, wanted_deviation = _per_channel(anchor_CTHW)
    gain = (wanted_deviation / (deviation + 1e-6)).clip(1 / GAIN, GAIN)
    corrected = history_CTHW + 0  # a copy, whichever library's it is
    corrected[:, past_T] = past + strength * ((past - mean) * gain + wanted_mean - past)
    return corrected


def raise_contrast(history_CTHW: Any, anchor_C1HW: Any, share: float) -> Any:
    """Each latent frame of a history with at least `share` of the anchor's contrast, per channel; its mean stays.

    A world that is played on loses contrast by little and little, and then sees its own pale past as how things are.
    Like `correct_history` this is for what the network is given alone. A frame without any contrast stays so.
    """
    if share == 0:
        return history_CTHW
    mean, deviation = _per_channel(history_CTHW, (2, 3))
    _, wanted = _per_channel(anchor_C1HW, (2, 3))
    return mean + (history_CTHW - mean) * (share * wanted / (deviation + 1e-6)).clip(1.0)


def _per_channel(latents_CTHW: Any, axes: tuple[int, ...] = (1, 2, 3)) -> tuple[Any, Any]:
    """Mean and standard deviation over `axes`, which are kept; the same words for numpy and torch."""
    mean = latents_CTHW.mean(axis=axes, keepdims=True)
    return mean, ((latents_CTHW - mean) ** 2).mean(axis=axes, keepdims=True) ** 0.5


def _grey(frames: np.ndarray) -> np.ndarray:
    return frames.mean(axis=-1, dtype=np.float32)
