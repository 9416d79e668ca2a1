"""`helios-world worlds`: what can be played here."""

from __future__ import annotations

import argparse
import json
from typing import Any

from helios_world.errors import UserError
from helios_world.pack import Pack, list_packs, read_pack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Lists every shipped pack. UserError if one cannot be read."""
    worlds = [describe(read_pack(name)) for name in list_packs()]
    if not worlds:
        raise UserError("no world pack is installed: install helios-world again")
    if args.json:
        print(json.dumps({"worlds": worlds}))
        return 0
    for world in worlds:
        print(f"{world['name']}: {world['width']}x{world['height']}, {world['fps']:g} fps, {world['size_mib']:.1f} MiB")
        for key in ("scenes", "buttons"):
            print(f"  {key}: {', '.join(world[key])}")
        print(f"  licence: {world['licence']}")
    return 0


def describe(pack: Pack) -> dict[str, Any]:
    """The card of a pack, with its licence and its size on disk in MiB."""
    size = sum(path.stat().st_size for path in pack.folder.iterdir() if path.is_file())
    return {**pack.card.to_dict(), "licence": pack.licence, "size_mib": round(size / 2**20, 2)}
