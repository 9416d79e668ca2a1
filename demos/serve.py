"""`helios-world serve`: a world on a port, for windows, envs and engines of other people to join."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from helios_world.demos.engine_arguments import add_engine_arguments, read_engine_options
from helios_world.demos.material import add_start_arguments, read_start
from helios_world.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--world", default="doom", help="name of a world pack, or the path of a pack folder (doom)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; others than loopback need keys")
    parser.add_argument("--port", type=int, default=5557, help="port to listen on; 0 picks a free one (5557)")
    parser.add_argument(
        "--codec", choices=("raw", "jpeg", "h264"), help="how frames travel (raw on loopback, else jpeg)"
    )
    parser.add_argument("--key", metavar="FILE.key", type=Path, help="key pair of this server, made by keygen")
    parser.add_argument(
        "--allow", metavar="FILE.pub", type=Path, action="append", default=[],
        help="public key of a client that may come in, or a folder of them; may be given more than once",
    )  # fmt: skip
    parser.add_argument("--insecure", action="store_true", help="beyond loopback without keys: everybody may come in")
    parser.add_argument("--threads", type=int, help="CPU threads of the generator (all cores)")
    parser.add_argument("--broadcast", metavar="PORT", type=int, help="port for spectators; 0 picks a free one (none)")
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
    from helios_world.bridge.codecs import check_codec
    from helios_world.bridge.door import LOOPBACK, check_address
    from helios_world.bridge.process import announce
    from helios_world.bridge.server import WorldServer

    for name in ("port", "broadcast"):
        if not 0 <= (getattr(args, name) or 0) < 1 << 16:
            raise UserError(f"{name} is {getattr(args, name)}: must be from 0 to 65535")
    if args.threads is not None and args.threads < 1:
        raise UserError(f"threads is {args.threads}: must be at least 1")
    lock, address = _read_lock(args), f"tcp://{args.host}:{args.port}"
    check_address(address, lock, args.insecure)
    codec = check_codec(args.codec or ("raw" if LOOPBACK.fullmatch(address) else "jpeg"))
    engine = _load(args)
    server = WorldServer(
        engine,
        address,
        lock=lock,
        insecure=args.insecure,
        codec=codec,
        start=read_start(args, engine.card),
        broadcast=args.broadcast,
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


def _read_lock(args: argparse.Namespace):
    from helios_world.bridge.keys import Lock, read_allowed, read_pair

    if args.key is None and not args.allow:
        return None
    if args.key is None or not args.allow:
        raise UserError("a server with keys needs both: --key, its own, and --allow, its clients'")
    return Lock(read_pair(args.key), read_allowed(args.allow))


def _load(args: argparse.Namespace):
    if args.fake:
        from helios_world.engine import WorldEngine
        from helios_world.testing import FakeWorldModel

        return WorldEngine(FakeWorldModel(seconds=0.045))
    from helios_world.open import load_engine

    if args.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(args.threads)  # read by torch, which is imported only now
    engine = load_engine(args.world, read_engine_options(args))
    from helios_world.nvjpeg import keep_frames

    keep_frames(engine.model)
    return engine
