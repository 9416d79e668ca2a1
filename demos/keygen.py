"""`helios-world keygen`: a key pair, for a server beyond this machine or for a client of one."""

from __future__ import annotations

import argparse
from pathlib import Path

from helios_world.home import home_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="of the pair, such as server or ada")
    parser.add_argument("--out", metavar="DIR", type=Path, help="where it goes (default: keys in the user folder)")


def run(args: argparse.Namespace) -> int:
    """Writes NAME.key, for its owner alone, and NAME.pub, to be told to others. Never overwrites one."""
    from helios_world.bridge.keys import make_keys

    secret, public = make_keys(args.out or home_folder() / "keys", args.name)
    print(f"{secret}   keep it: whoever has it comes in under this name")
    print(f"{public}   give it away")
    return 0
