"""What becomes of a world that is played on for minutes or an hour: how it looks, and when it has died.

Beyond the length of the real games that it began in, their actions come once more, and the real game's looks are those
of all of their frames.
Shapes: N rollouts, n chunks that are watched, t frames of a chunk, H W frame size, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np

from helios_world.drift import LOOKS
from helios_world.generator import Generator
from helios_world.training.evaluation import Trajectories, follow

TIMES = (1, 10, 30, 60, 600, 3600)  # seconds at which long rollouts are looked at
REAL_SECONDS = 60.0  # that the real game beside them is played for, at most
LAST_SECONDS = 10.0  # of a rollout, by which its death is told
LOOK = 9  # chunks up to a time that a look at it takes in
LAST_CHUNKS = 4  # whose sharpness tells a collapse
KEPT_BYTES = 2**31  # of frames that are kept, about: where all do not fit, that of every k-th chunk

Features = Callable[[np.ndarray], np.ndarray]  # (N, 1 + t, H, W, 3) to (N, F)


@dataclass(frozen=True)
class Watched:
    """What is kept of long rollouts, or of the real game beside them.

    Attributes:
        before: uint8 (N, H, W, 3), the frame before the first chunk.
        ends: int (n,), numbers of the chunks that were watched, from 1.
        frames: uint8 (N, n, H, W, 3), the last one of each.
        changes: float32 (N, n), mean absolute difference of consecutive frames in each.
        features: float32 (N, F) by chunk, of those up to the times that were asked for.
    """

    before: np.ndarray
    ends: np.ndarray
    frames: np.ndarray
    changes: np.ndarray
    features: Mapping[int, np.ndarray]

    def up_to(self, end: int, chunks: int) -> np.ndarray:
        """Which of the watched chunks, bool (n,), are the last `chunks` up to chunk `end`."""
        return (self.ends > end - chunks) & (self.ends <= end)


def chunks_at(seconds: Sequence[int], chunk_seconds: float, chunks: int) -> dict[int, int]:
    """Numbers of the chunks with which these seconds are over, by second; without those that lie beyond `chunks`."""
    ends = {s: round(s / chunk_seconds) for s in seconds}
    return {s: end for s, end in ends.items() if end <= chunks}


def chunks_to_watch(chunks: int, times: Sequence[int], last: int, frame_bytes: int) -> np.ndarray:
    """Numbers of chunks: every k-th, those that a look at `times` (in chunks) takes in, and the `last` ones.

    Args:
        frame_bytes: of one frame of all rollouts.
    """
    every = max(1, -(-chunks * frame_bytes // KEPT_BYTES))
    wanted = set(range(every, chunks + 1, every)) | set(range(max(1, chunks + 1 - last), chunks + 1))
    for end in times:
        wanted |= set(range(max(1, end - LOOK + 1), end + 1))
    return np.array(sorted(k for k in wanted if k <= chunks))


def watch(
    generator: Generator,
    real: Trajectories,
    context: int,
    ends: np.ndarray,
    seed: int,
    features: Features | None = None,
    times: Sequence[int] = (),
) -> Watched:
    """Plays on from the real games, all in one batch, until the last of `ends`.

    `times` are in chunks; features are of the chunks that a look at them takes in.
    """
    shown = {*ends.tolist(), *(ends - 1).tolist()}
    made = follow(generator, real, context, real.actions, seed, shown)
    return watched(real.frames[:, context * generator.card.frames_per_chunk - 1], made, ends, features, times)


def watch_real(
    real: Trajectories, context: int, t: int, features: Features | None = None, times: Sequence[int] = ()
) -> Watched:
    """The same of the real games, every chunk of them."""
    chunks = real.frames.shape[1] // t - context
    played = (real.frames[:, (context + k) * t : (context + k + 1) * t] for k in range(chunks))
    return watched(real.frames[:, context * t - 1], played, np.arange(1, chunks + 1), features, times)


def watched(
    before: np.ndarray,
    chunks: Iterator[np.ndarray | None],
    ends: np.ndarray,
    features: Features | None = None,
    times: Sequence[int] = (),
) -> Watched:
    """What is kept of `chunks` (N, t, H, W, 3) that come after the frames `before`, until the last of `ends`.

    Chunks that are not in `ends`, nor just before one that is, may be None.
    """
    wanted, began, frames, changes, found = set(ends.tolist()), before, [], [], {}
    near = {k for end in times for k in range(end - LOOK + 1, end + 1)} if features is not None else set()
    for k, made in enumerate(islice(chunks, int(ends[-1])), 1):
        if k in wanted:
            window = np.concatenate([before[:, None], made], axis=1)
            frames.append(made[:, -1].copy())
            changes.append(change(window))
            if k in near:
                found[k] = features(window)
        before = None if made is None else made[:, -1]
    return Watched(began, ends, np.stack(frames, axis=1), np.stack(changes, axis=1), found)


def change(window: np.ndarray) -> np.ndarray:
    """Mean absolute difference of consecutive frames, (N,), of uint8 (N, 1 + t, H, W, 3)."""
    differences = [
        np.abs(after.astype(np.int16) - before).mean(axis=(1, 2, 3), dtype=np.float32)
        for before, after in pairwise(window.swapaxes(0, 1))
    ]
    return np.mean(differences, axis=0)


def seen(measure: Callable[[np.ndarray], np.ndarray], frames: np.ndarray) -> np.ndarray:
    """A look (N, n) at uint8 (N, n, H, W, 3), one rollout after another: all at once would not fit in memory."""
    return np.stack([measure(row) for row in frames])


def drift(made: Watched, real: Watched, chunk_seconds: float, seconds: Sequence[int]) -> dict[str, Any]:
    """How generated frames look beside the real game's, as ratios by time; and how many rollouts died, and when.

    All real frames together are what they are compared with; a ratio to a look of 0 is None. `copy_last` is of the
    frames that rollouts began after, `data_mean` of the mean of all real frames: a world that shows these for ever.
    `real_` counts are of the real games, by the rules for rollouts: someone may stand before a plain wall.
    """
    ends = chunks_at(seconds, chunk_seconds, made.ends[-1])
    mean = real.frames.mean(axis=(0, 1), dtype=np.float64)
    shown = {name: [seen(look, part.frames) for part in (made, real)] for name, look in LOOKS.items()}
    still = {name: [float(look(part).mean()) for part in (made.before, mean)] for name, look in LOOKS.items()}
    shown["change"], still["change"] = [made.changes, real.changes], [0.0, 0.0]
    ratios, real_ratios, figures = {}, {}, {}
    for name, (values, truth) in shown.items():
        usual = float(truth.mean()) or np.nan
        ratios[name], real_ratios[name] = values / usual, truth / usual
        figures[f"{name}_to_real"] = {
            f"{s}_s": _rounded(ratios[name][:, made.up_to(end, LOOK)].mean()) for s, end in ends.items()
        }
        for who, value in zip(("copy_last", "data_mean"), still[name], strict=True):
            figures[f"{who}_{name}_to_real"] = _rounded(value / usual)
    floors = counted(signs_of_death(real, real_ratios, chunk_seconds))
    return figures | deaths(made, ratios, chunk_seconds) | {f"real_{name}": count for name, count in floors.items()}


def _rounded(ratio: float) -> float | None:
    return round(float(ratio), 3) if np.isfinite(ratio) else None


def deaths(made: Watched, ratios: Mapping[str, np.ndarray], chunk_seconds: float) -> dict[str, Any]:
    """How many rollouts ended dead, by each sign, and when they died: since when they were collapsed or stuck."""
    signs = signs_of_death(made, ratios, chunk_seconds)
    since = [dead_since(row) for row in signs["collapsed"] | signs["stuck"]]
    times = np.array([np.inf if index is None else made.ends[index] * chunk_seconds for index in since])
    first, median = (round(float(t), 1) if np.isfinite(t) else None for t in (times.min(), np.median(times)))
    return {**counted(signs), "rollouts": len(made.frames), "time_to_collapse_s": {"first": first, "median": median}}


def signs_of_death(shown: Watched, ratios: Mapping[str, np.ndarray], chunk_seconds: float) -> dict[str, np.ndarray]:
    """Which sign is there at which chunk that was watched, bool (N, n) each, of rollouts or of real games.

    `ratios` are looks (N, n) over those of the real game. A rollout has collapsed when its last four chunks have under
    a tenth of the sharpness; faded when its last ten seconds have under a third of the contrast; stuck when these also
    change from frame to frame by under a tenth of what the game does. Collapsed or stuck is dead.
    """
    last = round(LAST_SECONDS / chunk_seconds)
    collapsed, faded, stuck = [], [], []
    for index, end in enumerate(shown.ends):
        lately, whole = shown.up_to(end, last), end >= last or end == shown.ends[-1]
        collapsed.append(ratios["sharpness"][:, max(0, index + 1 - LAST_CHUNKS) : index + 1].mean(axis=1) < 0.1)
        faded.append(whole & (ratios["contrast"][:, lately].mean(axis=1) < 1 / 3))
        stuck.append(faded[-1] & (ratios["change"][:, lately].mean(axis=1) < 0.1))
    return {
        name: np.stack(sign, axis=1) for name, sign in (("collapsed", collapsed), ("faded", faded), ("stuck", stuck))
    }


def counted(signs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """How many show each sign at their end."""
    return {f"{name}_rollouts": int(sign[:, -1].sum()) for name, sign in signs.items()}


def dead_since(dead_n: np.ndarray) -> int | None:
    """Index from which all are True; None if the last is not."""
    if not dead_n[-1]:
        return None
    alive = np.flatnonzero(~dead_n)
    return int(alive[-1]) + 1 if len(alive) else 0
