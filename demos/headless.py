"""Playing without a window: a controller steers, a video and a contact sheet are what remains."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helios_world.bridge.score import Score
from helios_world.card import WorldCard
from helios_world.controllers import Controller, Recorder, Recording
from helios_world.demos.recording import ContactSheet, open_video
from helios_world.world import Start

REPORT_EVERY = 2.0  # seconds between lines that say how far it is


@dataclass(frozen=True, slots=True)
class Played:
    """What playing left.

    Attributes:
        frames: that were generated.
        seconds: wall time that they took.
        games: that were begun, each but the first because the one before had ended.
        rewards: chunks that brought one.
        score: sum of the rewards.
    """

    video: Path
    sheet: Path
    replay: Path
    frames: int
    seconds: float
    games: int
    rewards: int
    score: Score


def chunks_for(card: WorldCard, seconds: float) -> int:
    """Whole chunks that last at least `seconds` of world time."""
    return max(1, math.ceil(seconds / card.chunk_seconds - 1e-9))


def play_headless(
    session: Any,
    controller: Controller,
    head: Recording,
    *,
    chunks: int,
    video: Path,
    start: Start = Start(),
    clock: Callable[[], float] = time.perf_counter,
) -> Played:
    """Plays `chunks` chunks and writes VIDEO.mp4, VIDEO.png and VIDEO.json (a replay).

    A game that ends is followed by one of the next seed; a replay of the file, played here, does the same.

    Args:
        session: a Session or RemoteSession that was just reset to `head`'s scene and seed, and to `start`.
        head: world, scene, seed and number format, for the replay file.
    """
    card = session.card
    recorder = Recorder(controller, world=head.world, scene=head.scene, seed=head.seed, dtype=head.dtype)
    sheet = ContactSheet(card)
    frames, told, began = None, clock(), clock()
    games, rewards, score = 1, 0, Score()
    with open_video(video) as writer:
        for index in range(chunks):
            if score.over:
                session.reset(head.scene, seed=head.seed + games, start=start)
                frames, games, score = None, games + 1, Score(score.total)
            action = recorder.act(frames)
            chunk = session.step(action)
            frames, score, rewards = chunk.frames, score.after(chunk.outcome), rewards + (chunk.outcome.reward != 0)
            writer.write(frames, card)
            sheet.add(frames, action.buttons)
            if clock() - told > REPORT_EVERY:
                told = clock()
                print(f"{(index + 1) * card.chunk_seconds:.1f} of {chunks * card.chunk_seconds:.1f} s", file=sys.stderr)
    beside, made = (video.with_suffix(".png"), video.with_suffix(".json")), chunks * card.frames_per_chunk
    played = Played(video, *beside, made, clock() - began, games, rewards, score)
    sheet.write(played.sheet)
    recorder.recording.write(played.replay)
    return played
