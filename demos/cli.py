"""The command `helios-world`: imports the module of the chosen command alone, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import helios_world
from helios_world.errors import HeliosWorldError, MissingExtra, UserError

DONE, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130


class Command(NamedTuple):
    """Where a command lives. Its module has `add_arguments(parser)` and `run(args) -> exit code`."""

    module: str
    help: str
    examples: tuple[str, ...]


COMMANDS = {
    "play": Command(
        "helios_world.demos.play",
        "open a window and walk in a generated world",
        ("play", "play --scene maze --seed 7", "play --headless --seconds 10 --record walk.mp4"),
    ),
    "serve": Command(
        "helios_world.demos.serve",
        "generate worlds for windows, agents and games that connect",
        ("serve --port 5557",),
    ),
    "gateway": Command(
        "helios_world.demos.gateway",
        "serve a page on which browsers play the worlds of a server",
        ("gateway --connect tcp://127.0.0.1:5557",),
    ),
    "generate": Command(
        "helios_world.demos.generate",
        "make a video from words, an image or a video",
        (
            'generate "a red car drives through the rain" -o car.mp4 --weights Helios-Distilled',
            "generate --image coast.jpg --seconds 60 -o coast.mp4 --weights Helios-Distilled --offload",
        ),
    ),
    "keygen": Command(
        "helios_world.demos.keygen",
        "make keys for servers beyond this machine",
        ("keygen server", "keygen ada --out keys"),
    ),
    "worlds": Command(
        "helios_world.demos.worlds",
        "list the installed worlds with their scenes and buttons",
        ("worlds", "worlds --json"),
    ),
    "collect": Command(
        "helios_world.training.collect",
        "record frames and actions from the real game, to train on",
        ("collect --help",),
    ),
    "train": Command(
        "helios_world.training.train",
        "train a world from collected data",
        ("train --help",),
    ),
    "export": Command(
        "helios_world.training.export",
        "turn a finished training run into a world pack",
        ("export --help",),
    ),
    "eval": Command(
        "helios_world.demos.eval",
        "compare a world with the real game it was learnt from",
        ("eval --world doom --json",),
    ),
    "bench": Command(
        "helios_world.demos.bench",
        "measure frames per second and key-to-pixels delay",
        ("bench play --json",),
    ),
    "doctor": Command(
        "helios_world.demos.doctor",
        "check this machine and this installation",
        ("doctor", "doctor --json"),
    ),
}

# Modules that only an extra brings, by the name that an import of them fails with.
EXTRAS = {
    "torch": "engine",
    "safetensors": "engine",
    "pygame": "play",
    "av": "play",
    "PIL": "play",
    "vizdoom": "doom",
    "tqdm": "doom",
    "aiohttp": "web",
    "diffusers": "helios",
    "transformers": "helios",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the words after `helios-world`; None for those of this process.
    Returns:
        0 done, 1 a check failed or a server was lost, 2 the user's mistake, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        args = make_parser(words[0] if words else None).parse_args(words)
        return args._run(args)
    except ModuleNotFoundError as error:
        module = (error.name or "").split(".")[0]
        if module not in EXTRAS:
            raise
        return _complain(MissingExtra(module, EXTRAS[module]), MISTAKE)
    except UserError as error:
        return _complain(error, MISTAKE)
    except HeliosWorldError as error:
        return _complain(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED


def make_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser for all commands, with the arguments of command `chosen` alone: the others are only named."""
    parser = argparse.ArgumentParser(
        prog="helios-world",
        description="Playable, learnable, streamable worlds made by a neural video generator.",
        epilog="Begin with `helios-world play`. `helios-world COMMAND --help` explains each command.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and end")
    commands = parser.add_subparsers(dest="_command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        examples = "\n".join(f"  helios-world {example}" for example in command.examples)
        child = commands.add_parser(
            name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == chosen:
            module = import_module(command.module)
            module.add_arguments(child)
            child.set_defaults(_run=module.run)  # underscored: a command may have an argument called run
    return parser


class _Version(argparse.Action):
    """Looks the version up only when asked for it."""

    def __call__(self, parser, namespace, values, option_string=None):
        print(f"helios-world {helios_world.__version__}")
        parser.exit()


def _complain(error: Exception, code: int) -> int:
    print(f"helios-world: {error}", file=sys.stderr)
    return code
