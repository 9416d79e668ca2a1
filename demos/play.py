"""`helios-world play`: walk in a generated world, in a window or, where there is none, into a video."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from helios_world.controllers import (
    Controller,
    ExplorerController,
    RandomController,
    Recording,
    Replay,
    ScriptController,
    read_script,
)
from helios_world.demos.engine_arguments import DTYPES, add_engine_arguments, engine_words, read_engine_options
from helios_world.demos.headless import chunks_for, play_headless
from helios_world.demos.material import add_start_arguments, read_start
from helios_world.demos.recording import check_target, open_video
from helios_world.engine_options import EngineOptions
from helios_world.errors import MissingExtra, UserError, check_name
from helios_world.world import Start

if TYPE_CHECKING:
    import numpy as np

    from helios_world.card import WorldCard
    from helios_world.demos.link import Link

CONTROLLERS = "keyboard, explorer, random, script:FILE or replay:FILE"
HEADLESS_SECONDS = 10.0
LARGEST_SCALE = 16
CONNECTED = tuple(field.name for field in fields(EngineOptions))  # of the server's own networks
VIDEO = Path("play.mp4")


@dataclass(frozen=True)
class Plan:
    """What was asked for, checked as far as possible before anything is opened or written.

    Attributes:
        card: of the world; None when only the server at `connect` knows it.
        scene: None for the world's first.
        controller: kind and the file that belongs to it.
        recording: what `replay:FILE` held; None for other controllers.
        ticket, watch: of a session at `connect` to take over, and name of one to watch; "" for neither.
    """

    world: str
    card: WorldCard | None
    scene: str | None
    seed: int
    options: EngineOptions
    start: Start
    connect: str | None
    ticket: str
    watch: str
    keys: tuple[Path | None, Path | None]
    controller: tuple[str, Path | None]
    recording: Recording | None
    seconds: float | None
    record: Path | None
    scale: int | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `play`."""
    parser.add_argument("--world", help="world pack to play, by name or folder (default: doom)")
    parser.add_argument("--scene", help="where to start (default: the world's first scene)")
    parser.add_argument("--seed", type=int, help="which world: the same seed starts the same one (default: 0)")
    parser.add_argument("--headless", action="store_true", help="no window: write a video and a contact sheet")
    parser.add_argument("--seconds", type=float, help="stop after this much play (default: 10 headless, else never)")
    parser.add_argument("--record", metavar="FILE.mp4", type=Path, help="write a video of what is seen")
    parser.add_argument(
        "--controller", help=f"what steers: {CONTROLLERS} (default: keyboard; headless: a short script)"
    )
    parser.add_argument("--connect", metavar="ADDRESS", help="join a running `helios-world serve` (tcp://HOST:PORT)")
    parser.add_argument(
        "--ticket", default="", help="with --connect: take over the world that its player gave away (F7)"
    )
    parser.add_argument("--watch", metavar="NAME", default="", help="with --connect: watch what somebody plays (F6)")
    parser.add_argument(
        "--key", metavar="FILE.key", type=Path, help="key pair of yours, for a server that asks for keys"
    )
    parser.add_argument("--server-key", metavar="FILE.pub", type=Path, help="public key of that server")
    parser.add_argument("--scale", type=int, help="window pixels per world pixel (default: about 640 across)")
    add_start_arguments(parser)
    add_engine_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Plays until the player quits or the time is over."""
    plan = check(args)
    if args.headless:
        return _headless(plan)
    reason = _no_display(os.environ, sys.platform) or _windowed(plan)
    if reason is None:
        return 0
    if plan.ticket or plan.watch:
        raise UserError(f"--ticket and --watch need a window, and {reason}")
    seconds = HEADLESS_SECONDS if plan.seconds is None else plan.seconds
    print(f"{reason}: playing {seconds:g} s without a window", file=sys.stderr)
    return _headless(plan)


def check(args: argparse.Namespace) -> Plan:
    """The plan that the options make. UserError for the first that is not allowed; opens and writes nothing."""
    kind, file = _check_controller(args.controller, args.headless)
    recording = Recording.read(file) if kind == "replay" else None
    options = read_engine_options(args)
    options = replace(options, dtype=check_name("dtype", _agreed("dtype", args.dtype, recording, "auto"), DTYPES))
    card, start = None, Start(prompt=args.prompt)
    if args.connect is None:
        if args.key is not None or args.server_key is not None:
            raise UserError("keys are for a server elsewhere: give its address with --connect")
        if args.ticket or args.watch:
            raise UserError("--ticket and --watch join a world on a server: give its address with --connect")
        from helios_world.pack import read_card

        card = read_card(_agreed("world", args.world, recording, "doom"), options)
        start = read_start(args, card)
    else:
        _check_connected(args)
    plan = Plan(
        world=_agreed("world", args.world, recording, "doom"),
        card=card,
        scene=_agreed("scene", args.scene, recording, None),
        seed=_agreed("seed", args.seed, recording, 0),
        options=options,
        start=start,
        connect=args.connect,
        ticket=args.ticket,
        watch=args.watch,
        keys=(args.key, args.server_key),
        controller=(kind, file),
        recording=recording,
        seconds=args.seconds,
        record=args.record,
        scale=args.scale,
    )
    _check_figures(plan)
    if card is not None:
        card.check_scene(plan.scene)
        make_controller(plan, card)
    if plan.record is not None:
        check_target(plan.record, ".mp4")
    return plan


def _check_connected(args: argparse.Namespace) -> None:
    """UserError for options that are the server's to choose."""
    for name in ("world", "image", "video", *CONNECTED):
        if getattr(args, name):
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option} is chosen by the server at {args.connect}: leave it out with --connect")
    if args.ticket and args.watch:
        raise UserError("--ticket takes a world over and --watch looks on: give one of them")
    if args.ticket or args.watch:
        for name in ("scene", "seed", "prompt", *(["controller"] if args.watch else [])):
            if getattr(args, name) is not None:
                raise UserError(f"--{name} is of a world that begins: leave it out with --ticket or --watch")
        if args.headless:
            raise UserError("--ticket and --watch need a window: leave --headless out")
    if not re.fullmatch(r"tcp://[^\s/:]+:\d{1,5}", args.connect):
        raise UserError(f"unknown address {args.connect!r}: must be like tcp://127.0.0.1:5557")


def make_controller(plan: Plan, card: WorldCard) -> Controller | None:
    """What steers, fit for the world; None for the keyboard alone. UserError for buttons the world lacks."""
    kind, file = plan.controller
    if kind == "random":
        return RandomController(card.buttons, plan.seed)
    if kind == "explorer":
        return ExplorerController(card.buttons, plan.seed)
    if kind == "script":
        return ScriptController(read_script(file, card.buttons)) if file else ScriptController.default(card.buttons)
    if kind == "replay":
        if plan.connect is not None and plan.recording.world != card.name:
            raise UserError(f"the replay is of world {plan.recording.world!r}: the server has {card.name!r}")
        return Replay(plan.recording.check_buttons(card.buttons))
    return None


def _check_controller(asked: str | None, headless: bool) -> tuple[str, Path | None]:
    if asked is None:
        return ("script" if headless else "keyboard"), None
    kind, _, file = asked.partition(":")
    if kind in ("script", "replay") and file:
        return kind, Path(file)
    if asked not in ("keyboard", "explorer", "random"):
        raise UserError(f"unknown controller {asked!r}: choose from {CONTROLLERS}")
    if asked == "keyboard" and headless:
        raise UserError(
            "controller 'keyboard' needs a window: with --headless choose explorer, random, script:FILE or replay:FILE"
        )
    return asked, None


def _check_figures(plan: Plan) -> None:
    if plan.seed < 0:
        raise UserError(f"seed is {plan.seed}: must be 0 or more")
    if plan.seconds is not None and not (math.isfinite(plan.seconds) and plan.seconds > 0):
        raise UserError(f"seconds is {plan.seconds:g}: must be more than 0")
    if plan.scale is not None and not 1 <= plan.scale <= LARGEST_SCALE:
        raise UserError(f"scale is {plan.scale}: must be 1 to {LARGEST_SCALE}")


def _agreed(name: str, option, recording: Recording | None, default):
    """The option, or what the replay was recorded with; UserError when the two differ."""
    if recording is None:
        return default if option is None else option
    recorded = getattr(recording, name)
    if option is not None and option != recorded:
        raise UserError(f"--{name} {option} differs from the replay's {recorded!r}: leave it out")
    return recorded


def _no_display(environ: Mapping[str, str], platform: str) -> str | None:
    """Why no window can be opened here; None when it is worth trying."""
    if not platform.startswith(("linux", "freebsd")):
        return None
    named = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return None if any(environ.get(name) for name in named) else "there is no display"


def _headless(plan: Plan) -> int:
    from helios_world.open import load_engine, open_session

    video = plan.record or check_target(VIDEO, ".mp4")
    for beside in (".png", ".json"):
        check_target(video.with_suffix(beside), beside)
    if plan.controller[0] == "keyboard":
        plan = replace(plan, controller=("script", None))
    dtype = plan.options.dtype
    if plan.connect is None:
        engine = load_engine(plan.world, plan.options)
        dtype = str(engine.model.dtype).removeprefix("torch.")  # what "auto" came to is what a replay must ask for
        session = engine.open(plan.scene, seed=plan.seed, start=plan.start)[0]
    else:
        key, server_key = plan.keys
        session = open_session(
            scene=plan.scene, seed=plan.seed, start=plan.start, connect=plan.connect, key=key, server_key=server_key
        )
    try:
        card = session.card
        controller = make_controller(plan, card)
        world = card.name if plan.connect else plan.world
        head = Recording(world, card.check_scene(plan.scene), plan.seed, dtype)
        played = play_headless(session, controller, head, chunks=_chunks(plan, card), video=video, start=plan.start)
    finally:
        session.close()
    rate = played.frames / played.seconds
    print(f"{played.frames} frames in {played.seconds:.1f} s ({rate:.1f} a second)", file=sys.stderr)
    if card.outcomes:
        print(f"games {played.games}, rewards {played.rewards}, score {played.score} in all", file=sys.stderr)
    for path in (played.video, played.sheet, played.replay):
        print(path)
    return 0


def _chunks(plan: Plan, card: WorldCard) -> int:
    if plan.seconds is None and plan.recording is not None:
        return max(1, len(plan.recording.actions))
    return chunks_for(card, HEADLESS_SECONDS if plan.seconds is None else plan.seconds)


def _windowed(plan: Plan) -> str | None:
    """Plays in a window; returns why none could be opened, or None when the game is over."""
    if find_spec("pygame") is None:
        raise MissingExtra("pygame", "play")
    from helios_world.bridge.keys import read_client_keys
    from helios_world.bridge.process import ServerProcess
    from helios_world.bridge.spectator import Spectator
    from helios_world.bridge.stream import WorldStream
    from helios_world.demos.link import Link

    # The generator loads in its process while this one opens the window.
    words = ["--world", plan.world, *engine_words(plan.options)]
    server = ServerProcess(words) if plan.connect is None else None
    keys = read_client_keys(*plan.keys)
    if plan.watch:
        connect = partial(Spectator, name=plan.watch, keys=keys)
    else:
        connect = partial(WorldStream, ticket=plan.ticket, keys=keys)
    link = Link(
        connect,
        scene=plan.scene,
        seed=plan.seed,
        start=plan.start,
        joins=bool(plan.ticket),
        watches=bool(plan.watch),
        server=server,
        address=plan.connect,
        card=plan.card,
    )
    try:
        return play_in_window(plan, link)
    finally:
        link.close()


def play_in_window(plan: Plan, link: Link) -> str | None:
    """Opens the window on `link` and plays; returns why no window could be opened, or None when the game is over."""
    from helios_world.demos.window import NoDisplay, Window

    def record(pixels: np.ndarray) -> None:
        try:
            video.write([pixels], link.card)
        except UserError as error:  # a full disk ends the video, not the game
            window.say(str(error))

    with open_video(plan.record) as video:
        try:
            window = Window(
                link,
                steer=lambda card: make_controller(plan, card),
                scale=plan.scale,
                on_frame=None if video is None else record,
                seconds=plan.seconds,
            )
        except NoDisplay as error:
            return str(error)
        try:
            window.run()
        finally:
            window.close()
    return None
