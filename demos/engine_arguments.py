"""The options of commands that set up a world's networks: as arguments, as `EngineOptions`, and as words again."""

from __future__ import annotations

import argparse
import re

from helios_world.engine_options import EngineOptions
from helios_world.errors import UserError

DTYPES = ("auto", "float32", "bfloat16")


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """--dtype, --device, --steps, and those of worlds that are played with a checkpoint. None where not given."""
    group = parser.add_argument_group("networks")
    group.add_argument("--dtype", help=f"number format: {', '.join(DTYPES)} (default: auto, the faster one)")
    group.add_argument("--device", help="auto, cpu, cuda or cuda:NUMBER (default: auto)")
    group.add_argument("--steps", metavar="N,N,N", help="denoise steps per pyramid level (default: the world's own)")
    group.add_argument(
        "--drift-correction",
        type=float,
        help="0 to 1: how far the past seen goes back to the first colours (default: 0)",
    )
    group.add_argument("--weights", metavar="DIR", help="folder of a Helios checkpoint (world helios)")
    group.add_argument("--latents", type=int, help="latent frames per chunk, 1 to 9: less is sooner (world helios: 9)")
    group.add_argument("--size", metavar="HxW", help="height and width of a frame (world helios: 384x640)")
    group.add_argument("--offload", action="store_true", help="keep the network in host memory: for cards of 24 GB")


def read_engine_options(args: argparse.Namespace) -> EngineOptions:
    """What the arguments say. UserError for one that cannot be read."""
    given = {
        "dtype": args.dtype,
        "device": args.device,
        "steps": read_steps(args.steps),
        "drift_correction": args.drift_correction,
        "weights": args.weights,
        "latents": args.latents,
        "size": None if args.size is None else _numbers("size", args.size, r"\d+x\d+", "x"),
        "offload": args.offload or None,
    }
    return EngineOptions.from_dict({name: value for name, value in given.items() if value is not None})


def read_steps(text: str | None) -> tuple[int, ...] | None:
    """Denoise steps per level as "2,4"; None for None."""
    return None if text is None else _numbers("steps", text, r"\d+(,\d+)*", ",")


def engine_words(options: EngineOptions) -> list[str]:
    """The arguments that say `options`, for another process."""
    words = ["--dtype", options.dtype, "--device", options.device]
    if options.steps is not None:
        words += ["--steps", ",".join(map(str, options.steps))]
    if options.drift_correction:
        words += ["--drift-correction", str(options.drift_correction)]
    if options.weights is not None:
        words += ["--weights", options.weights]
    if options.latents is not None:
        words += ["--latents", str(options.latents)]
    if options.size is not None:
        words += ["--size", "x".join(map(str, options.size))]
    return [*words, "--offload"] if options.offload else words


def _numbers(name: str, text: str, form: str, separator: str) -> tuple[int, ...]:
    if not re.fullmatch(form, text):
        example = "2,2,2" if separator == "," else "384x640"
        raise UserError(f"{name} is {text!r}: must be like {example}")
    return tuple(map(int, text.split(separator)))
