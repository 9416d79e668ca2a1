"""`helios-world eval`: a world beside the real game, on recordings that training never saw."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helios_world.demos.beside import Film, write_sheet
from helios_world.demos.engine_arguments import read_steps
from helios_world.demos.plots import check_plots, draw_curves
from helios_world.demos.report import print_report, report
from helios_world.demos.scorecard import scorecard
from helios_world.errors import MissingExtra, UserError, check_name
from helios_world.pack import read_card

if TYPE_CHECKING:
    from helios_world.generator import Generator
    from helios_world.training.probe_figures import Reader

WALK_SECONDS = 60.0  # of walks that watch where they go, at most
COUNTS = ("trajectories", "rollouts", "tours", "games")  # options of which --quick takes a quarter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `eval`."""
    parser.add_argument("--world", default="doom", help="world pack, by name or folder (default: doom)")
    parser.add_argument("--scene", help="scene whose game it is compared with (default: the world's first)")
    parser.add_argument("--trajectories", type=int, default=64, help="held-out recordings (default: 64)")
    parser.add_argument("--chunks", type=int, default=24, help="chunks predicted after each, up to 240 (default: 24)")
    parser.add_argument("--context", type=int, help="real chunks before them (default: as many as the world remembers)")
    parser.add_argument("--rollouts", type=int, default=8, help="long rollouts, in one batch (default: 8)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the long rollouts (default: 60)")
    parser.add_argument("--tours", type=int, default=16, help="games of each tour, of turning both ways (default: 16)")
    parser.add_argument("--games", type=int, default=64, help="whole games, for outcomes (default: 64)")
    parser.add_argument("--quick", action="store_true", help="a quarter of all of them, and long rollouts of 30 s")
    parser.add_argument("--probe", metavar="WORLD", help="world pack whose probe judges (default: the world's own)")
    parser.add_argument("--steps", metavar="N,N", help="denoise steps per level (default: the pack's)")
    parser.add_argument(
        "--contrast", type=float, help="0 to 1: least of the past, to the anchor's (default: the pack's)"
    )
    parser.add_argument("--dtype", default="auto", help="number format: auto, float32 or bfloat16 (default: auto)")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:NUMBER (default: cpu)")
    parser.add_argument("--seed", type=int, default=0, help="of recordings and noise (default: 0)")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet of the long rollouts to this PNG")
    parser.add_argument("--film", type=Path, help="also write the first predictions beside the game to this GIF")
    parser.add_argument("--plot", type=Path, help="also draw the curves to this PNG")
    parser.add_argument("--markdown", type=Path, help="also write all figures as a table to this file")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    """Compares and prints the figures."""
    _check(args)
    scenes = read_card(args.world).scenes
    args.scene = check_name("scene", args.scene or scenes[0], scenes)
    try:
        from helios_world.generator import load_generator
        from helios_world.training.probe_figures import load_reader
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "torch", "doom") from None
    steps, contrast = read_steps(args.steps), args.contrast
    generator = load_generator(args.world, dtype=args.dtype, device=args.device, steps=steps, contrast=contrast)
    reader = load_reader(args.probe or args.world, args.scene, generator.device)
    figures, reference = _near(args, generator, reader)
    figures |= _far(args, generator, reader, reference) | _apart(args, generator, reader)
    sampler, dtype = generator.sampler, str(generator.dtype).removeprefix("torch.")
    sampling = {"steps": list(sampler.steps), "contrast": sampler.contrast, "dtype": dtype}
    place = str(generator.device)
    values = report(_command(args), args.seed, **figures, scene=args.scene, **sampling, device=place)
    if args.plot is not None:
        draw_curves(values, args.plot)
    if args.markdown is not None:
        args.markdown.parent.mkdir(parents=True, exist_ok=True)
        args.markdown.write_text(scorecard(values), encoding="utf-8")
    print_report(values, args.json)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Makes the options those of --quick where it is given. UserError for one that cannot be used."""
    if args.quick:
        for name in COUNTS:
            setattr(args, name, max(1, getattr(args, name) // 4))
        args.chunks, args.seconds = min(args.chunks, 16), min(args.seconds, 30.0)
    for name in (*COUNTS, "chunks"):
        if getattr(args, name) < 1:
            raise UserError(f"{name} is {getattr(args, name)}: must be at least 1")
    if args.context is not None and args.context < 1:
        raise UserError(f"context is {args.context}: must be at least 1")
    if not 1 <= args.seconds <= 3600:
        raise UserError(f"seconds is {args.seconds:g}: must be 1 to 3600")
    for name, suffix in (("sheet", ".png"), ("film", ".gif"), ("plot", ".png")):
        path = getattr(args, name)
        if path is not None and path.suffix.lower() != suffix:
            raise UserError(f"{name} is {path}: the name must end in {suffix}")
    if args.plot is not None:
        check_plots()


def _near(args: argparse.Namespace, generator: Generator, reader: Reader | None) -> tuple[dict[str, Any], Any]:
    """Likeness, inverse dynamics and state by chunk; and features of the real chunks, where there is a probe."""
    from helios_world.training.evaluation import compare, held_out
    from helios_world.training.probe_figures import Readings

    context, t = _context(args, generator), generator.card.frames_per_chunk
    _say(f"recording {args.trajectories} games of {args.scene}")
    real = held_out(args.scene, args.trajectories, (context + args.chunks) * t, args.seed)
    _say(f"predicting {args.chunks} chunks of them")
    film = Film(real, context, t)
    readings = None if reader is None else Readings(reader, real, context, t)
    watches = [film.watch] if readings is None else [film.watch, readings.watch]
    figures = compare(generator, real, context, args.chunks, args.seed, watches)
    if args.film is not None:
        film.write(args.film, generator.card.fps)
    return (figures, None) if readings is None else (figures | readings.figures(), readings.reference)


def _far(args: argparse.Namespace, generator: Generator, reader: Reader | None, reference: Any) -> dict[str, Any]:
    """Looks, deaths and Frechet distances of long rollouts; writes their contact sheet."""
    from helios_world.training import endurance
    from helios_world.training.evaluation import held_out
    from helios_world.training.probe_figures import frechet_by_time

    card, context, t = generator.card, _context(args, generator), generator.card.frames_per_chunk
    chunks = round(args.seconds / card.chunk_seconds)
    played = context + min(chunks, round(endurance.REAL_SECONDS / card.chunk_seconds))
    _say(f"{args.rollouts} long rollouts of {args.seconds:g} s")
    real = held_out(args.scene, args.rollouts, played * t, args.seed + 1, least=(context + 1) * t)
    ends = endurance.chunks_at(endurance.TIMES, card.chunk_seconds, chunks)
    last = round(endurance.LAST_SECONDS / card.chunk_seconds)
    kept = endurance.chunks_to_watch(chunks, list(ends.values()), last, real.frames[:, 0].nbytes)
    features, times = None if reader is None else reader.features, list(ends.values())
    made = endurance.watch(generator, real, context, kept, args.seed, features, times)
    truth = endurance.watch_real(real, context, t, features, times)
    figures = endurance.drift(made, truth, card.chunk_seconds, endurance.TIMES)
    if reader is not None:
        figures |= frechet_by_time(reader, made, truth, reference, ends)
    if args.sheet is not None:
        write_sheet(args.sheet, made, truth, card.chunk_seconds)
    return figures


def _apart(args: argparse.Namespace, generator: Generator, reader: Reader | None) -> dict[str, Any]:
    """What is measured in games of its own: tours, turning both ways, outcomes, determinism."""
    from helios_world.training.determinism import determinism
    from helios_world.training.outcome_eval import outcome_figures
    from helios_world.training.tours import counterfactual, revisit, tours_in
    from helios_world.training.walks import can_walk, walks

    _say("walks, tours, and turning both ways")
    scene, tours, seed = args.scene, args.tours, args.seed
    figures = {
        "revisit": {name: revisit(generator, scene, name, tours, seed + 2) for name in tours_in(scene)},
        "counterfactual": counterfactual(generator, scene, tours, seed + 3, reader),
        "determinism": determinism(generator, scene, seed),
    }
    if can_walk(scene):
        figures["walks"] = walks(generator, scene, args.rollouts, min(args.seconds, WALK_SECONDS), seed + 5)
    _say("outcomes")
    outcomes = outcome_figures(generator, scene, args.games, seed + 4)
    return {**figures, "outcomes": outcomes} if outcomes else figures


def _context(args: argparse.Namespace, generator: Generator) -> int:
    """Real chunks that the world goes on from."""
    return args.context or generator.history_length


def _command(args: argparse.Namespace) -> str:
    """What was run, with every number."""
    words = (
        f"helios-world eval --world {args.world} --scene {args.scene} --trajectories {args.trajectories}"
        f" --chunks {args.chunks} --rollouts {args.rollouts} --seconds {args.seconds:g} --tours {args.tours}"
        f" --games {args.games} --dtype {args.dtype} --device {args.device} --seed {args.seed}"
    )
    options = (("context", args.context), ("steps", args.steps), ("contrast", args.contrast), ("probe", args.probe))
    return words + "".join(f" --{name} {value}" for name, value in options if value is not None)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
