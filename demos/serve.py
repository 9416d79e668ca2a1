"""`helios-world serve`: a world on a port, for windows, envs and engines of other people to join."""

from __future__ import annotations

import argparse
import os
import sys

from helios_world.demos.engine_arguments import add_engine_arguments, read_engine_options
from helios_world.demos.material import add_start_arguments, read_start
from helios_world.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--world", default="doom", help="name of a world pack, or the path of a pack folder (doom)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; only loopback (127.0.0.1)")
    parser.add_argument("--port", type=int, default=5557, help="port to listen on; 0 picks a free one (5557)")
    parser.add_argument("--codec", choices=("raw", "jpeg"), default="raw", help="how frames travel (raw)")
    parser.add_argument("--threads", type=int, help="CPU threads of the generator (all cores)")
    parser.add_argument("--max-sessions", type=int, default=8, help="worlds at the same time (8)")
    parser.add_argument(
        "--announce", action="store_true", help="for programs: print one JSON line when ready, end with stdin"
    )
    add_start_arguments(parser)
    add_engine_arguments(parser)
    parser.add_argument("--fake", action="store_true", help=argparse.SUPPRESS)  # for tests: a world without weights


def run(args: argparse.Namespace) -> int:
    """Serves until interrupted. Returns 130 then, 2 for a mistake that was announced to the parent."""
    from helios_world.bridge.process import announce, exit_with_parent

    if not args.announce:
        return _serve(args)
    exit_with_parent()
    try:
        return _serve(args)
    except UserError as error:
        announce(error=str(error))
        return 2


def _serve(args: argparse.Namespace) -> int:
    from helios_world.bridge.process import announce
    from helios_world.bridge.server import WorldServer

    if not 0 <= args.port < 1 << 16:
        raise UserError(f"port is {args.port}: must be from 0 to 65535")
    if args.threads is not None and args.threads < 1:
        raise UserError(f"threads is {args.threads}: must be at least 1")
    engine = _load(args)
    server = WorldServer(
        engine,
        f"tcp://{args.host}:{args.port}",
        codec=args.codec,
        start=read_start(args, engine.card),
        max_sessions=args.max_sessions,
    )
    try:
        if args.announce:
            announce(address=server.address)
        else:
            world = "fake" if args.fake else args.world
            print(f"{world} at {server.address}   join: helios-world play --connect {server.address}", flush=True)
        server.serve(lambda: False)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    finally:
        server.close()
    return 130


def _load(args: argparse.Namespace):
    if args.fake:
        from helios_world.engine import WorldEngine
        from helios_world.testing import FakeWorldModel

        return WorldEngine(FakeWorldModel(seconds=0.045))
    from helios_world.open import load_engine

    if args.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(args.threads)  # read by torch, which is imported only now
    return load_engine(args.world, read_engine_options(args))
