"""`helios-world eval`: a world beside the real game, on recordings that training never saw."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from helios_world.demos.engine_arguments import read_steps
from helios_world.demos.plots import check_plots, draw_curves
from helios_world.demos.report import print_report, report
from helios_world.errors import MissingExtra, UserError

TIMES = (1, 10, 30, 60)  # seconds at which long rollouts are looked at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `eval`."""
    parser.add_argument("--world", default="doom", help="world pack, by name or folder (default: doom)")
    parser.add_argument("--trajectories", type=int, default=64, help="held-out recordings (default: 64)")
    parser.add_argument("--chunks", type=int, default=24, help="chunks predicted after each (default: 24)")
    parser.add_argument("--rollouts", type=int, default=8, help="long rollouts (default: 8)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the long rollouts (default: 60)")
    parser.add_argument(
        "--tours", type=int, default=16, help="games of each tour and of turning both ways (default: 16)"
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of all of them, and long rollouts of 30 s")
    parser.add_argument("--steps", metavar="N,N", help="denoise steps per level (default: the pack's)")
    parser.add_argument("--dtype", default="auto", help="number format: auto, float32 or bfloat16 (default: auto)")
    parser.add_argument("--seed", type=int, default=0, help="of recordings and noise (default: 0)")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet of the long rollouts to this PNG")
    parser.add_argument("--plot", type=Path, help="also draw the curves to this PNG")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    """Compares and prints the figures."""
    if args.quick:
        for name in ("trajectories", "rollouts", "tours"):
            setattr(args, name, max(1, getattr(args, name) // 4))
        args.chunks, args.seconds = min(args.chunks, 16), min(args.seconds, 30.0)
    for name in ("trajectories", "chunks", "rollouts", "tours"):
        if getattr(args, name) < 1:
            raise UserError(f"{name} is {getattr(args, name)}: must be at least 1")
    if not 1 <= args.seconds <= 3600:
        raise UserError(f"seconds is {args.seconds:g}: must be 1 to 3600")
    if args.plot is not None:
        check_plots()
    try:
        from helios_world.generator import load_generator
        from helios_world.training.evaluation import compare, drift, held_out, last_frames
        from helios_world.training.tours import TOURS, counterfactual, revisit
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "torch", "doom") from None
    generator = load_generator(args.world, dtype=args.dtype, steps=read_steps(args.steps))
    card, context = generator.card, generator.history_length
    scene = card.scenes[0]
    frames = (context + args.chunks) * card.frames_per_chunk
    print(f"recording {args.trajectories} games of {scene}", file=sys.stderr)
    real = held_out(scene, args.trajectories, frames, args.seed)
    print("predicting them", file=sys.stderr)
    began = time.monotonic()
    figures = compare(generator, real, context, args.chunks, args.seed)
    print(f"compared in {time.monotonic() - began:.0f} s; long rollouts", file=sys.stderr)
    long = (context + round(args.seconds / card.chunk_seconds)) * card.frames_per_chunk
    made, truth = last_frames(generator, held_out(scene, args.rollouts, long, args.seed + 1), context, args.seed)
    figures |= drift(made, truth, card.chunk_seconds, TIMES)
    print("tours, and turning both ways", file=sys.stderr)
    figures["revisit"] = {name: revisit(generator, scene, name, args.tours, args.seed + 2) for name in TOURS}
    figures["counterfactual"] = counterfactual(generator, scene, args.tours, args.seed + 3)
    if args.sheet is not None:
        write_sheet(args.sheet, made, truth, card.chunk_seconds)
    command = (
        f"helios-world eval --world {args.world} --trajectories {args.trajectories} --chunks {args.chunks}"
        f" --rollouts {args.rollouts} --seconds {args.seconds:g} --tours {args.tours} --dtype {args.dtype}"
        f" --seed {args.seed}"
    )
    if args.steps:
        command += f" --steps {args.steps}"
    values = report(command, args.seed, **figures, steps=list(generator.sampler.steps), dtype=str(generator.dtype)[6:])
    if args.plot is not None:
        draw_curves(values, args.plot)
    print_report(values, args.json)
    return 0


def write_sheet(path: Path, made: np.ndarray, real: np.ndarray, chunk_seconds: float) -> None:
    """For each rollout a row of generated frames over a row of the real game's, under the same actions."""
    from PIL import Image

    columns = np.linspace(0, made.shape[1] - 1, 10).round().astype(int)
    rows = [np.concatenate(list(row[columns]), axis=1) for pair in zip(made, real, strict=True) for row in pair]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, axis=0)).save(path)
    print(f"{path}: a picture every {(columns[1] - columns[0]) * chunk_seconds:.1f} s", file=sys.stderr)
