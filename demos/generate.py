"""`helios-world generate`: words, an image or a video to a video file, written while it is made."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helios_world.demos.engine_arguments import add_engine_arguments, read_engine_options
from helios_world.demos.material import add_start_arguments, read_start
from helios_world.demos.recording import check_target, open_video
from helios_world.demos.report import print_report, report
from helios_world.drift import measure_drift
from helios_world.errors import MissingExtra, UserError
from helios_world.world import Start

if TYPE_CHECKING:
    from helios_world.engine import Chunk, WorldEngine

SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `generate`."""
    parser.add_argument("text", metavar="PROMPT", nargs="?", help="what is to be seen; the same as --prompt")
    parser.add_argument("-o", "--out", metavar="FILE.mp4", type=Path, required=True, help="where the video goes")
    parser.add_argument("--world", default="helios", help="world pack, by name or folder (default: helios)")
    parser.add_argument("--scene", help="whose words to use where there is no prompt (default: the first)")
    parser.add_argument("--frames", type=int, help="how many, exactly")
    parser.add_argument("--seconds", type=float, help=f"or how long (default: {SECONDS:g})")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same video (default: 0)")
    parser.add_argument("--json", action="store_true", help="print times, memory and drift as one JSON object")
    add_start_arguments(parser)
    add_engine_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the video and prints where it is."""
    from helios_world.open import load_engine
    from helios_world.pack import read_card

    if args.text is not None and args.prompt is not None:
        raise UserError("give the prompt once: in words, or as --prompt")
    args.prompt = args.text if args.prompt is None else args.prompt
    if args.seed < 0:
        raise UserError(f"seed is {args.seed}: must be 0 or more")
    options = read_engine_options(args)
    card = read_card(args.world, options)
    card.check_scene(args.scene)
    frames = count_frames(args, card.fps)
    check_target(args.out, ".mp4")
    start = read_start(args, card)
    print("loading the networks", file=sys.stderr)
    engine = load_engine(args.world, options)
    figures = write_video(engine, args.scene, start, frames, args.seed, args.out)
    if args.json:
        from helios_world.device import peak_gib

        figures["peak_device_gib"] = peak_gib(engine.model.device)
        command = f"helios-world generate --world {args.world} --frames {frames} --seed {args.seed}"
        print_report(report(command, args.seed, **figures), True)
    else:
        print(args.out)
    return 0


def count_frames(args: argparse.Namespace, fps: float) -> int:
    """Frames that were asked for."""
    if args.frames is not None and args.seconds is not None:
        raise UserError("give --frames or --seconds, not both")
    if args.frames is not None:
        if args.frames < 1:
            raise UserError(f"frames is {args.frames}: must be at least 1")
        return args.frames
    seconds = SECONDS if args.seconds is None else args.seconds
    if not (math.isfinite(seconds) and seconds > 0):
        raise UserError(f"seconds is {seconds:g}: must be more than 0")
    return max(1, round(seconds * fps))


def write_video(
    engine: WorldEngine, scene: str | None, start: Start, frames: int, seed: int, path: Path
) -> dict[str, Any]:
    """Exactly `frames` frames to `path`; one chunk at a time is in memory. Returns times and drift by chunk."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        raise MissingExtra("tqdm", "helios") from None
    card, anchor = engine.card, None
    drifts, seconds, left, began = [], [], frames, time.monotonic()
    with open_video(path) as video, tqdm(total=frames, unit="frame", dynamic_ncols=True) as bar:
        for chunk in chunks(engine, scene, start, seed):
            anchor = chunk.frames[0].copy() if anchor is None else anchor
            drifts.append(measure_drift(chunk.frames[-1], anchor).to_dict())
            seconds.append(round(chunk.seconds, 3))
            wanted = chunk.frames[:left]
            video.write(wanted, card)
            left -= len(wanted)
            bar.update(len(wanted))
            if not left:
                break
    return {
        "frames": frames,
        "height": card.height,
        "width": card.width,
        "chunk_s": seconds,
        "total_s": round(time.monotonic() - began, 3),
        "drift": drifts,
    }


def chunks(engine: WorldEngine, scene: str | None, start: Start, seed: int) -> Iterator[Chunk]:
    """All that a world makes: chunk 0 too, where it was made of words and is not the material that was given."""
    session, first = engine.open(scene, seed=seed, start=start)
    if start.image is None and start.video is None:
        yield first
    while True:
        yield session.step()
