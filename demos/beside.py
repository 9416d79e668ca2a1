"""Generated pictures over the real game's under the same actions: a sheet of long rollouts, a film of short ones.

Shapes: N games, T frames, H W frame size; t frames of a chunk.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from helios_world.training.endurance import Watched
    from helios_world.training.evaluation import Trajectories

GAMES = 4  # of a film: the first ones, whatever they show
EVERY = 2  # frames of the world to one of a film
COLOURS = 128  # of a film, which has one palette


class Film:
    """What was made of the first games, as it comes, and beside it what the game showed."""

    def __init__(self, real: Trajectories, context: int, t: int):
        """Args:
        context: chunks before the first that is made.
        """
        self._real = real.frames[:GAMES, context * t :]
        self._made: list[np.ndarray] = []

    def watch(self, k: int, frames: np.ndarray) -> None:
        """Takes the k-th chunk of all games after the frame before it, (N, 1 + t, H, W, 3); see `evaluation.Watch`."""
        self._made.append(frames[:GAMES, 1:].copy())

    def write(self, path: Path, fps: float) -> None:
        """A GIF at the world's own speed: a column for each game, what was made above."""
        from PIL import Image

        made = np.concatenate(self._made, axis=1)
        real = self._real[:, : made.shape[1]]
        pictures = [Image.fromarray(_grid(made[:, i], real[:, i])) for i in range(0, made.shape[1], EVERY)]
        strip = Image.fromarray(np.concatenate([np.asarray(picture) for picture in pictures], axis=0))
        palette = strip.quantize(COLOURS)
        first, *others = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
        path.parent.mkdir(parents=True, exist_ok=True)
        first.save(path, save_all=True, append_images=others, duration=round(1000 * EVERY / fps), loop=0)


def write_sheet(path: Path, made: Watched, real: Watched, chunk_seconds: float) -> None:
    """For each rollout a row of generated frames over a row of the real game's under the same actions, as far as it
    goes."""
    from PIL import Image

    columns = np.linspace(0, len(made.ends) - 1, 10).round().astype(int)
    beside = np.searchsorted(real.ends, made.ends[columns]).clip(max=len(real.ends) - 1)
    rows = [_grid(*pair) for pair in zip(made.frames[:, columns], real.frames[:, beside], strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, axis=0)).save(path)
    seconds = ", ".join(f"{made.ends[column] * chunk_seconds:.1f}" for column in columns)
    print(f"{path}: pictures at {seconds} s", file=sys.stderr)


def _grid(above_NHW3: np.ndarray, below_NHW3: np.ndarray) -> np.ndarray:
    """Two rows of pictures, (2 H, N W, 3)."""
    return np.concatenate([np.concatenate(list(row), axis=1) for row in (above_NHW3, below_NHW3)], axis=0)
