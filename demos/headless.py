"""Playing without a window: a controller steers, a video and a contact sheet are what remains."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helios_world.card import WorldCard
from helios_world.controllers import Controller, Recorder, Recording
from helios_world.demos.recording import ContactSheet, open_video

REPORT_EVERY = 2.0  # seconds between lines that say how far it is


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a headless game left.

    Attributes:
        frames: that were generated.
        seconds: wall time that they took.
    """

    video: Path
    sheet: Path
    replay: Path
    frames: int
    seconds: float


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
    clock: Callable[[], float] = time.perf_counter,
) -> Outcome:
    """Plays `chunks` chunks and writes VIDEO.mp4, VIDEO.png and VIDEO.json (a replay).

    Args:
        session: a Session or RemoteSession that was just reset to `head`'s scene and seed.
        head: world, scene, seed and number format, for the replay file.
    """
    card = session.card
    recorder = Recorder(controller, world=head.world, scene=head.scene, seed=head.seed, dtype=head.dtype)
    sheet = ContactSheet(card)
    frames, told, began = None, clock(), clock()
    with open_video(video) as writer:
        for index in range(chunks):
            action = recorder.act(frames)
            frames = session.step(action).frames
            writer.write(frames, card)
            sheet.add(frames, action.buttons)
            if clock() - told > REPORT_EVERY:
                told = clock()
                print(f"{(index + 1) * card.chunk_seconds:.1f} of {chunks * card.chunk_seconds:.1f} s", file=sys.stderr)
    outcome = Outcome(
        video, video.with_suffix(".png"), video.with_suffix(".json"), chunks * card.frames_per_chunk, clock() - began
    )
    sheet.write(outcome.sheet)
    recorder.recording.write(outcome.replay)
    return outcome
