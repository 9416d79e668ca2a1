"""`helios-world collect`: real frames and the actions that led to them, by many game processes at once.

A data set is a folder of shards, one per process: NNN.NAME.npy of n rows for each field of `Row`; and data.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from helios_world.errors import UserError, check_name
from helios_world.training.game import BUTTONS, CELL, FPS, HEIGHT, SCENARIOS, WIDTH, Game, View
from helios_world.training.gunner import Gunner
from helios_world.training.walker import Walker

ARRAYS = {
    "frames": ("uint8", (HEIGHT, WIDTH, 3)),
    "actions": ("uint8", (len(BUTTONS),)),
    "episodes": ("int32", ()),
    "poses": ("float32", (3,)),
    "outcomes": ("float32", (3,)),
    "stats": ("float32", (2,)),
    "actors": ("uint8", (HEIGHT // CELL, WIDTH // CELL)),
}
PLAYERS: dict[str, Callable[[np.random.Generator], GamePlayer]] = {"maze": Walker, "arena": Gunner}


class GamePlayer(Protocol):
    """Whoever plays the real game."""

    def act(self, view: View) -> np.ndarray:
        """Buttons for the next frame, uint8 (7,)."""


class Row(NamedTuple):
    """A frame of the real game and what is known of it, in the order of ARRAYS.

    Attributes:
        frames: uint8 (128, 160, 3).
        actions: buttons that led to it, uint8 (7,); zeros for the first of an episode.
        episodes: number of its episode, from 0.
        poses: x, y, heading; see `game.View`.
        outcomes: reward of the step that led to it; reward of the step after it, if that ended the game by its rules,
            else 0; and 1 if it did, else 0.
        stats: health, 0 to 100; and 1 if a monster is to be seen, else 0.
        actors: uint8 (16, 20), how much of each cell monsters cover; see `game.View`.
    """

    frames: np.ndarray
    actions: np.ndarray
    episodes: int
    poses: tuple[float, float, float]
    outcomes: tuple[float, float, float]
    stats: tuple[float, float]
    actors: np.ndarray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Plays the real game with a scripted player and stores frames and actions to train on. "
        "Example: helios-world collect --out data/maze --frames 600000 --workers 16"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set; must not hold one yet")
    parser.add_argument("--scene", default="maze", help=f"one of {', '.join(SCENARIOS)} (default: maze)")
    parser.add_argument("--frames", type=int, default=600_000, help="frames in all; 61 kB each (default: 600000)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="game processes (default: one per core)")
    parser.add_argument("--seed", type=int, default=0, help="of games and walkers; evaluation uses others (default: 0)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done and stop")


def run(args: argparse.Namespace) -> int:
    config = {
        "scene": check_name("scene", args.scene, SCENARIOS),
        "frames": args.frames,
        "workers": args.workers,
        "seed": args.seed,
        "fps": FPS,
        "buttons": list(BUTTONS),
    }
    print(json.dumps({"out": str(args.out), **config}))
    if args.workers < 1 or args.frames < args.workers:
        raise UserError(f"{args.frames} frames for {args.workers} workers: each needs at least one")
    if (args.out / "data.json").exists():
        raise UserError(f"{args.out} already holds a data set: choose another --out")
    if not args.dry_run:
        collect(args.out, args.scene, args.frames, args.workers, args.seed)
        (args.out / "data.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return 0


def collect(out: Path, scene: str, frames: int, workers: int, seed: int) -> None:
    """Fills `out` with one shard per worker, showing progress."""
    from tqdm import tqdm

    out.mkdir(parents=True, exist_ok=True)
    share = [frames // workers + (i < frames % workers) for i in range(workers)]
    context = multiprocessing.get_context("spawn")
    counters = [context.Value("q", 0, lock=False) for _ in range(workers)]
    crew = [
        context.Process(target=_record, args=(out / f"{i:03d}", scene, share[i], (seed, i), counters[i]), daemon=True)
        for i in range(workers)
    ]
    for worker in crew:
        worker.start()
    with tqdm(total=frames, unit="frame", smoothing=0.05) as bar:
        while any(worker.is_alive() for worker in crew):
            time.sleep(0.5)
            bar.update(sum(counter.value for counter in counters) - bar.n)
        bar.update(sum(counter.value for counter in counters) - bar.n)
    failed = [i for i, worker in enumerate(crew) if worker.exitcode]
    if failed:
        raise UserError(f"workers {failed} failed; {out} is not complete")


def play(game: Game, player: GamePlayer, frames: int) -> Iterator[Row]:
    """Yields `frames` rows, episode after episode."""
    episode, view, buttons = 0, game.reset(), np.zeros(len(BUTTONS), np.uint8)
    for left in reversed(range(frames)):
        following = player.act(view) if left else buttons
        after = game.step(following) if left else view
        ending = (0.0, 0.0) if after is not None or not game.ending.by_itself else (game.ending.reward, 1.0)
        stats = (view.health, float(view.target is not None))
        yield Row(view.frame, buttons, episode, view.pose, (view.reward, *ending), stats, view.actors)
        if after is None:
            episode, after, following = episode + 1, game.reset(), np.zeros(len(BUTTONS), np.uint8)
        view, buttons = after, following


def _record(stem: Path, scene: str, frames: int, seed: tuple[int, int], counter) -> None:
    """One worker: a shard at `stem`."""
    arrays = {
        name: np.lib.format.open_memmap(f"{stem}.{name}.npy", "w+", dtype, (frames, *shape))
        for name, (dtype, shape) in ARRAYS.items()
    }
    sequence = np.random.SeedSequence(seed)
    game = Game(scene, int(sequence.generate_state(1)[0]))
    player = PLAYERS[scene](np.random.default_rng(sequence))
    for t, row in enumerate(play(game, player, frames)):
        for array, value in zip(arrays.values(), row, strict=True):
            array[t] = value
        counter.value = t + 1
    game.close()
    for array in arrays.values():
        array.flush()
