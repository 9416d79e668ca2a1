"""Walks whose end is known: back to where they began, or one way against the other. In the real game and made up.

Shapes: N games, T frames, H W frame size, A buttons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from helios_world.generator import Generator
from helios_world.training.evaluation import held_out, predict
from helios_world.training.game import BUTTONS, SCENARIOS, View
from helios_world.training.similarity import psnr, ssim, turned
from helios_world.training.walker import Walker

if TYPE_CHECKING:
    from helios_world.training.probe_figures import Reader

VIEWS = ("", "real_", "halfway_", "real_halfway_", "data_mean_")  # of a tour, as prefixes of their figures
CHUNK = 4  # frames that a stretch of a tour is a multiple of
NEAR = (4.0, 4.0, 1.0)  # map units and degrees; a real game that ends farther from its beginning met a wall on its way
SETTLE = 12  # frames of standing still before a tour
CLEAR = 2  # pixels between turning left and right that tell one from the other
FARTHEST = 48  # pixels that a turn is looked for

# Frames for which a button is held, and then for which none is. Turning is slower in its first three frames: 52 of
# them are 356.8 degrees, and one more after a rest makes 360.4. Walking out is backwards, where the walker came from;
# it slides on for half a second.
TOURS = {
    "full_turn": ((52, "turn_left", 1), (1, "turn_left", 2)),
    "out_and_back": ((8, "back", 12), (8, "forward", 12)),
}
FARTHEST_FRAME = {"full_turn": 25, "out_and_back": 19}  # of a tour: what it began with is out of sight there


def tours_in(scene: str) -> list[str]:
    """Names of the tours whose buttons act in the scene's game."""
    acting = SCENARIOS[scene].buttons
    return [name for name, parts in TOURS.items() if all(button in acting for _, button, _ in parts)]


def stretch(frames: int, button: str | None = None, rest: int = 0) -> np.ndarray:
    """uint8 (frames + rest, A): `button` held for `frames`, then nothing."""
    rows = np.zeros((frames + rest, len(BUTTONS)), np.uint8)
    if button is not None:
        rows[:frames, BUTTONS.index(button)] = 1
    return rows


def tour(name: str) -> np.ndarray:
    """uint8 (T, A), T whole chunks: the buttons of one of TOURS, and a chunk of standing still after them."""
    return np.concatenate([*(stretch(*part) for part in TOURS[name]), stretch(CHUNK)])


class Tourist:
    """Walks about, stands still for the last SETTLE of `before` frames, then goes on a tour."""

    def __init__(self, rng: np.random.Generator, before: int, rows: np.ndarray):
        still = stretch(SETTLE)
        self._walker, self._before, self._rows = Walker(rng), before - len(still), np.concatenate([still, rows])
        self._done = 0

    def act(self, view: View) -> np.ndarray:
        """Buttons for the next frame, uint8 (A,)."""
        self._done += 1
        step = self._done - 1 - self._before
        return self._walker.act(view) if step < 0 else self._rows[step]


def tourists(context: int, rows: np.ndarray) -> Callable[[np.random.Generator], Tourist]:
    """Makes a Tourist whose tour begins after `context` chunks, of which the first frame is nobody's action."""
    return lambda rng: Tourist(rng, CHUNK * context - 1, rows)


def revisit(generator: Generator, scene: str, name: str, games: int, seed: int) -> dict[str, Any]:
    """How much the view after a tour is the view that was left: PSNR and SSIM, made up and in the real game.

    `halfway` is the view from where the tour is farthest, to which a world that stands still is no better; `data_mean`
    the mean of all views that were left. Only of games in which the real one came back. A mean of no games is None.
    """
    context, rows = generator.history_length, tour(name)
    real = held_out(scene, games, CHUNK * context + len(rows), seed, tourists(context, rows))
    left = real.frames[:, CHUNK * context - 1]
    poses = real.poses[:, [CHUNK * context - 1, -1]].copy()
    if "forward" not in SCENARIOS[scene].buttons:
        poses[..., :2] = 0.0  # where nobody walks, one is only pushed
    back = came_back(*poses.swapaxes(0, 1))
    figures: dict[str, Any] = {"games": int(back.sum())}
    views = dict.fromkeys(VIEWS)
    if back.any():
        real, left, half = real.chosen(back), left[back], FARTHEST_FRAME[name]
        made = predict(generator, real, context, len(rows) // CHUNK, real.actions, seed)
        made, played = made.reshape(len(left), len(rows), *left.shape[1:]), real.frames[:, CHUNK * context :]
        mean = np.broadcast_to(left.mean(axis=0), left.shape)
        views = dict(zip(VIEWS, (made[:, -1], played[:, -1], made[:, half], played[:, half], mean), strict=True))
    for prefix, pictures in views.items():
        known = pictures is not None
        figures[f"{prefix}psnr_db"] = round(float(psnr(pictures, left, (1, 2, 3)).mean()), 2) if known else None
        figures[f"{prefix}ssim"] = round(float(ssim(pictures, left).mean()), 3) if known else None
    return figures


def came_back(left_N3: np.ndarray, returned_N3: np.ndarray) -> np.ndarray:
    """Whether poses are the same but for NEAR, (N,)."""
    away = np.abs(returned_N3 - left_N3)
    away[:, 2] = turned(left_N3[:, 2], returned_N3[:, 2])
    return (away <= NEAR).all(axis=1)


def counterfactual(
    generator: Generator, scene: str, games: int, seed: int, reader: Reader | None = None
) -> dict[str, Any]:
    """Same past, same noise, turning left against turning right: how often the picture goes the right way, how soon.

    The same of the real game is what the measure itself can tell; at a plain wall it can tell nothing.
    `probe_agreement` is how often the probe sees more of a turn to the left for left.
    """
    context = generator.history_length
    shifts: dict[str, list[np.ndarray]] = {"": [], "real_": []}
    turns: dict[str, list[np.ndarray]] = {"": [], "real_": []}
    for button in ("turn_left", "turn_right"):
        rows = stretch(CHUNK, button)
        real = held_out(scene, games, CHUNK * (context + 1), seed, tourists(context, rows))
        before = real.frames[:, CHUNK * context - 1]
        made = predict(generator, real, context, 1, real.actions, seed)[:, 0]
        for who, frames in (("", made), ("real_", real.frames[:, CHUNK * context :])):
            moved = [shift(part_that_turns(before, scene), part_that_turns(f, scene)) for f in frames.swapaxes(0, 1)]
            shifts[who].append(np.stack(moved, axis=1))
            if reader is not None:
                turns[who].append(reader.read(np.concatenate([before[:, None], frames], axis=1)).turns)
    figures: dict[str, Any] = {"games": games}
    for who, (left, right) in shifts.items():
        apart = left - right  # (N, T), pixels
        figures[f"{who}agreement"] = round(float((apart[:, -1] > 0).mean()), 3)
        figures[f"{who}delay_frames"] = delay(apart)
    for who, both in turns.items() if reader is not None else ():
        figures[f"{who}probe_agreement"] = round(float((both[0] > both[1]).mean()), 3)
    return figures


def part_that_turns(frames: np.ndarray, scene: str) -> np.ndarray:
    """Of (..., H, W, 3): all, or above the horizon where figures and a weapon stay where they are."""
    height = frames.shape[-3]
    return frames[..., height // 4 : height // 2, :, :] if SCENARIOS[scene].hud else frames


def delay(apart_NT: np.ndarray) -> float | None:
    """Frames until the picture of one who turns left is 2 pixels from that of one who turns right, in the median.

    0: the first frame shows it. Of games in which it is within T frames; None of none.
    """
    seen = apart_NT >= CLEAR
    return float(np.median(seen.argmax(axis=1)[seen.any(axis=1)])) if seen.any() else None


def shift(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Pixels (N,) that the picture went to the right, where uint8 (N, H, W, 3) fit best: least mean absolute error."""
    x, y = (pictures.astype(np.float32).mean(axis=-1) for pictures in (before, after))
    width = x.shape[-1]
    far = min(FARTHEST, width // 3)
    steps = np.arange(-far, far + 1)
    errors = [
        np.abs(x[..., max(0, -s) : width - max(0, s)] - y[..., max(0, s) : width - max(0, -s)]).mean(axis=(-2, -1))
        for s in steps
    ]
    return steps[np.argmin(errors, axis=0)]
