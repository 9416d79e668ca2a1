"""A world beside the real game it was learnt from, under the same actions, chunk by chunk.

Shapes: N trajectories, T frames, H W frame size, A buttons; t frames of a chunk, K chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np

from helios_world.errors import UserError
from helios_world.generator import Generator
from helios_world.training.collect import PLAYERS, GamePlayer, Row, play
from helios_world.training.game import TICS_PER_FRAME, Game
from helios_world.training.similarity import psnr, ssim
from helios_world.world import Start

HORIZONS = (1, 2, 4, 8, 16, 24, 64, 240)  # chunks after the context at which likeness is told
PIXELS = (1, 2, 3, 4)  # axes of (N, t, H, W, 3) that are not trajectories
TRIES = 10  # games that are begun for each that is wanted

# Is given the number of a chunk, from 1, and its frames after the one before it, (N, 1 + t, H, W, 3).
Watch = Callable[[int, np.ndarray], None]


class Trajectories(NamedTuple):
    """Recordings of the real game that training never saw."""

    frames: np.ndarray  # uint8 (N, T, H, W, 3)
    actions: np.ndarray  # float32 (N, T, A)
    poses: np.ndarray  # float32 (N, T, 3)
    outcomes: np.ndarray  # float32 (N, T, 3), see `collect.Row`
    stats: np.ndarray  # float32 (N, T, 2), likewise
    scene: str

    def chosen(self, which_N: np.ndarray) -> Trajectories:
        """Some of them."""
        return Trajectories(*(part[which_N] for part in self[:-1]), self.scene)


def held_out(
    scene: str,
    count: int,
    frames: int,
    seed: int,
    player: Callable[[np.random.Generator], GamePlayer] | None = None,
    *,
    least: int | None = None,
) -> Trajectories:
    """`count` recordings, each `frames` long, from starting places that the game picks.

    `player` makes who plays each of them, by default as in training: where all are equal up to some frame, so are the
    games. Seeds of the players are (seed, "held out", i); training draws its own from (seed, worker).

    Args:
        least: frames that the first game of each recording lasts; after its end come others. By default all.
    Raises:
        UserError: too few games last so long.
    """
    make, rows = player or PLAYERS[scene], []
    sequence = np.random.SeedSequence((seed, 0x68656C64))
    game = Game(scene, int(sequence.generate_state(1)[0]), episode_tics=TICS_PER_FRAME * (frames + 10))
    for own in sequence.spawn(TRIES * (count + 1)):
        taken = _recorded(game, make(np.random.default_rng(own)), frames, frames if least is None else least)
        if taken is not None:
            rows.append(taken)
        if len(rows) == count:
            break
    game.close()
    if len(rows) < count:
        raise UserError(f"{len(rows)} of {TRIES * (count + 1)} games of {scene} lasted {frames} frames: ask for less")
    joined = Row(*(np.stack(parts) for parts in zip(*rows, strict=True)))
    known = (joined.actions, joined.poses, joined.outcomes, joined.stats)
    return Trajectories(joined.frames, *(part.astype(np.float32) for part in known), scene)


def _recorded(game: Game, player: GamePlayer, frames: int, least: int) -> Row | None:
    """Rows of a player, stacked; None as soon as the first game ends before `least` of them."""
    taken = []
    for row in play(game, player, frames):
        if row.episodes and len(taken) < least:
            return None
        taken.append(row)
    return Row(*(np.stack(parts) for parts in zip(*taken, strict=True)))


def follow(
    generator: Generator,
    real: Trajectories,
    context: int,
    actions: np.ndarray,
    seed: int,
    shown: Container[int] | None = None,
) -> Iterator[np.ndarray | None]:
    """Chunk after chunk, for ever, (N, t, H, W, 3): what follows the first `context` chunks of each trajectory.

    Under `actions`, whose rows are those of the trajectories; at their end, those after the context come once more.

    Args:
        shown: numbers of the chunks to decode, from 1, by default all; None comes instead of others.
    """
    t = generator.card.frames_per_chunk
    known = actions.shape[1] // t - context
    states = [
        generator.reset(real.scene, seed=seed + i, start=Start(video=frames[: context * t]))[0]
        for i, frames in enumerate(real.frames)
    ]
    for chunk in count(1):
        low = (context + (chunk - 1) % known) * t
        rows = actions[:, low : low + t]
        if shown is None or chunk in shown:
            states, made = generator.step(states, rows)
        else:
            states, made = generator.advance(states, rows), None
        yield made


def predict(
    generator: Generator, real: Trajectories, context: int, chunks: int, actions: np.ndarray, seed: int
) -> np.ndarray:
    """The first chunks of `follow`, (N, chunks, t, H, W, 3)."""
    return np.stack(list(islice(follow(generator, real, context, actions, seed), chunks)), axis=1)


def compare(
    generator: Generator, real: Trajectories, context: int, chunks: int, seed: int, watches: Sequence[Watch] = ()
) -> dict[str, Any]:
    """PSNR and SSIM to the real game by chunk, and controls: another game's actions, the last frame, the mean frame.

    Each is a mean over trajectories; PSNR in dB. `watches` are shown every chunk.
    """
    t, wanted = generator.card.frames_per_chunk, [k for k in HORIZONS if k <= chunks]
    truth, before = _chunks_after(real, context, t), real.frames[:, context * t - 1]
    likeness, last, mean = Likeness(wanted), Likeness(wanted), Likeness(wanted)
    still, mean_frame = np.repeat(before[:, None], t, axis=1), _mean_frame(truth(k) for k in range(1, chunks + 1))
    for k, made in enumerate(islice(follow(generator, real, context, real.actions, seed), chunks), 1):
        for who, shown in ((likeness, made), (last, still), (mean, np.broadcast_to(mean_frame, made.shape))):
            who.add(k, shown, truth(k))
        for watch in watches:
            watch(k, np.concatenate([before[:, None], made], axis=1))
        before = made[:, -1]
    others = predict(generator, real, context, 1, np.roll(real.actions, 1, axis=0), seed)[:, 0]
    coded, worst = _coded(generator, truth(1), real.scene), float(np.mean(mean.psnr))
    second = generator.card.chunk_seconds
    return {
        "psnr_db": likeness.psnr_by_chunk(),
        "psnr_shuffled_actions_db": round(float(psnr(others, truth(1), PIXELS).mean()), 2),
        "psnr_copy_last_db": last.psnr_by_chunk(),
        "psnr_mean_frame_db": round(worst, 2),
        "ssim": likeness.ssim,
        "ssim_copy_last": last.ssim,
        "ssim_mean_frame": mean.ssim,
        "psnr_autoencoder_db": round(float(psnr(coded, truth(1), PIXELS).mean()), 2),
        "ssim_autoencoder": round(float(ssim(coded[:, -1], truth(1)[:, -1]).mean()), 3),
        "t50_s": half_time(likeness.psnr, worst, second),
        "t50_copy_last_s": half_time(last.psnr, worst, second),
        "trajectories": len(real.frames),
        "start_places": len({tuple(pose) for pose in np.round(real.poses[:, 0, :2] / 32).astype(int).tolist()}),
    }


class Likeness:
    """How alike chunks are to the real ones, as they come: PSNR of each, SSIM of the last frame of those `wanted`."""

    def __init__(self, wanted: Sequence[int]):
        self.psnr: list[float] = []
        self.ssim: dict[str, float] = {}
        self._wanted = wanted

    def add(self, k: int, shown: np.ndarray, truth: np.ndarray) -> None:
        """The k-th chunk of all trajectories, (N, t, H, W, 3)."""
        self.psnr.append(float(psnr(shown, truth, PIXELS).mean()))
        if k in self._wanted:
            self.ssim[str(k)] = round(float(ssim(shown[:, -1], truth[:, -1]).mean()), 3)

    def psnr_by_chunk(self) -> dict[str, float]:
        """Of those wanted."""
        return {str(k): round(self.psnr[k - 1], 2) for k in self._wanted}


def half_time(curve: Sequence[float], worst: float, chunk_seconds: float) -> float | None:
    """Seconds until a curve by chunk has fallen half way from its first value to `worst`; None if it never does."""
    half = (curve[0] + worst) / 2
    if curve[0] <= worst:
        return None
    for k in range(1, len(curve)):
        if curve[k] <= half:
            share = (curve[k - 1] - half) / (curve[k - 1] - curve[k])
            return round((k + share) * chunk_seconds, 2)
    return None


def _chunks_after(real: Trajectories, context: int, t: int) -> Callable[[int], np.ndarray]:
    """The k-th real chunk after the context, (N, t, H, W, 3), from 1."""
    return lambda k: real.frames[:, (context + k - 1) * t : (context + k) * t]


def _mean_frame(chunks: Iterator[np.ndarray]) -> np.ndarray:
    """float32 (H, W, 3) of all frames of all chunks, each (N, t, H, W, 3)."""
    return np.mean([chunk.mean(axis=(0, 1)) for chunk in chunks], axis=0).astype(np.float32)


def _coded(generator: Generator, chunks: np.ndarray, scene: str) -> np.ndarray:
    """Chunks encoded and decoded: no prediction can be better."""
    return np.stack([generator.reset(scene, start=Start(video=frames))[1] for frames in chunks])
