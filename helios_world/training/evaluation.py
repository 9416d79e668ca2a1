"""A world beside the real game it was learnt from, under the same actions.

Shapes: N trajectories, T frames, H W frame size, A buttons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from helios_world.drift import LOOKS, contrast, sharpness
from helios_world.generator import Generator
from helios_world.training.collect import PLAYERS, GamePlayer, Row, play
from helios_world.training.game import TICS_PER_FRAME, Game
from helios_world.training.similarity import psnr, ssim
from helios_world.world import Start

FADED_SECONDS = 10.0


class Trajectories(NamedTuple):
    """Recordings of the real game that training never saw."""

    frames: np.ndarray  # uint8 (N, T, H, W, 3)
    actions: np.ndarray  # float32 (N, T, A)
    poses: np.ndarray  # float32 (N, T, 3)
    outcomes: np.ndarray  # float32 (N, T, 3), see `collect.Row`
    stats: np.ndarray  # float32 (N, T, 2), likewise


def held_out(
    scene: str,
    count: int,
    frames: int,
    seed: int,
    player: Callable[[np.random.Generator], GamePlayer] | None = None,
) -> Trajectories:
    """`count` episodes, each `frames` long, from starting places that the game picks.

    `player` makes who plays each of them, by default as in training: where all are equal up to some frame, so are the
    games. Seeds of the players are (seed, "held out", i); training draws its own from (seed, worker).
    """
    make, rows = player or PLAYERS[scene], []
    sequence = np.random.SeedSequence((seed, 0x68656C64))
    game = Game(scene, int(sequence.generate_state(1)[0]), episode_tics=TICS_PER_FRAME * (frames + 10))
    seeds = iter(sequence.spawn(100 * count))
    while len(rows) < count:
        taken = list(play(game, make(np.random.default_rng(next(seeds))), frames))
        if taken[-1].episodes == 0:  # the episode lasted
            rows.append(Row(*(np.stack(parts) for parts in zip(*taken, strict=True))))
    game.close()
    joined = Row(*(np.stack(parts) for parts in zip(*rows, strict=True)))
    return Trajectories(
        joined.frames,
        *(part.astype(np.float32) for part in (joined.actions, joined.poses, joined.outcomes, joined.stats)),
    )


def predict(
    generator: Generator, real: Trajectories, context: int, chunks: int, actions: np.ndarray, seed: int
) -> np.ndarray:
    """Frames (N, chunks, t, H, W, 3) that follow the first `context` chunks of each trajectory under `actions`."""
    t, scene = generator.card.frames_per_chunk, generator.card.scenes[0]
    states = [
        generator.reset(scene, seed=seed + i, start=Start(video=frames[: context * t]))[0]
        for i, frames in enumerate(real.frames)
    ]
    made = []
    for chunk in range(chunks):
        low = (context + chunk) * t
        states, frames = generator.step(states, actions[:, low : low + t])
        made.append(frames)
    return np.stack(made, axis=1)


def compare(generator: Generator, real: Trajectories, context: int, chunks: int, seed: int) -> dict:
    """PSNR and SSIM to the real game by chunk, and controls: another game's actions, the last frame, the mean frame.

    Each is a mean over trajectories; PSNR in dB.
    """
    t = generator.card.frames_per_chunk
    truth = real.frames[:, context * t : (context + chunks) * t]
    truth = truth.reshape(len(truth), chunks, t, *truth.shape[2:])
    made = predict(generator, real, context, chunks, real.actions, seed)
    others = predict(generator, real, context, 1, np.roll(real.actions, 1, axis=0), seed)
    last = np.broadcast_to(real.frames[:, context * t - 1][:, None, None], truth.shape)
    pixels = (2, 3, 4, 5)
    wanted = [k for k in (1, 2, 4, 8, 16, 24) if k <= chunks]
    by_chunk, still = psnr(made, truth, pixels).mean(axis=0), psnr(last, truth, pixels).mean(axis=0)
    return {
        "psnr_db": {str(k): round(float(by_chunk[k - 1]), 2) for k in wanted},
        "psnr_shuffled_actions_db": round(float(psnr(others, truth[:, :1], pixels).mean()), 2),
        "psnr_copy_last_db": {str(k): round(float(still[k - 1]), 2) for k in wanted},
        "psnr_mean_frame_db": round(float(psnr(truth.mean(axis=(0, 1, 2)), truth, pixels).mean()), 2),
        "ssim": {str(k): round(float(ssim(made[:, k - 1, -1], truth[:, k - 1, -1]).mean()), 3) for k in wanted},
        "ssim_copy_last": {
            str(k): round(float(ssim(last[:, k - 1, -1], truth[:, k - 1, -1]).mean()), 3) for k in wanted
        },
        "psnr_autoencoder_db": round(float(_autoencoder_psnr(generator, truth[:, 0])), 2),
        "trajectories": len(truth),
        "start_places": len({tuple(pose) for pose in np.round(real.poses[:, 0, :2] / 32).astype(int).tolist()}),
    }


def last_frames(generator: Generator, real: Trajectories, context: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Last frame of every chunk after the context, generated and real, each (N, chunks, H, W, 3)."""
    t = generator.card.frames_per_chunk
    chunks = real.frames.shape[1] // t - context
    made = predict(generator, real, context, chunks, real.actions, seed)[:, :, -1]
    return made, real.frames[:, context * t :][:, t - 1 :: t][:, :chunks]


def drift(
    made: np.ndarray, real: np.ndarray, chunk_seconds: float, seconds: Sequence[int]
) -> dict[str, dict[str, float]]:
    """How the look of generated frames compares with the real ones at the same time, as ratios; and how many died.

    A rollout counts as collapsed when its last four chunks have under a tenth of the real game's mean sharpness, and as
    faded when its last ten seconds have under a third of the real game's mean contrast.
    """
    ratios: dict[str, dict[str, float]] = {}
    for name, measure in LOOKS.items():
        truth = measure(real).mean()
        ends = {s: round(s / chunk_seconds) for s in seconds if round(s / chunk_seconds) <= made.shape[1]}
        ratios[f"{name}_to_real"] = {
            f"{s}_s": round(float(measure(made[:, max(0, end - 9) : end]).mean() / truth), 3) for s, end in ends.items()
        }
    collapsed = sharpness(made[:, -4:]).mean(axis=1) < 0.1 * sharpness(real).mean()
    faded = contrast(made[:, -round(FADED_SECONDS / chunk_seconds) :]).mean(axis=1) < contrast(real).mean() / 3
    counts = {"collapsed_rollouts": int(collapsed.sum()), "faded_rollouts": int(faded.sum()), "rollouts": len(made)}
    return {**ratios, **counts}


def _autoencoder_psnr(generator: Generator, chunks: np.ndarray) -> float:
    """What decoding an encoded chunk costs: no prediction can be better."""
    values = []
    for frames in chunks:
        _, shown = generator.reset(generator.card.scenes[0], start=Start(video=frames))
        values.append(psnr(shown, frames, (0, 1, 2, 3)))
    return float(np.mean(values))
