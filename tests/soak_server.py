"""The server of a soak, a child process: room for many, a timed fake or a real world, and a file of what it holds.

SIGUSR1 makes it give free memory back to the system, so that what is still held can be told from what is only kept.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from helios_world.bridge import server as bridge_server
from helios_world.bridge.process import announce, exit_with_parent
from helios_world.engine import WorldEngine
from helios_world.open import load_engine
from helios_world.testing import FakeWorldModel

EVERY = 0.5  # seconds between two writings of the file


class Counts(logging.Handler):
    """Asked by the server's loop whether to stop, which is never: the time to look at what the server holds."""

    def __init__(self, server: bridge_server.WorldServer, path: Path):
        super().__init__(logging.WARNING)
        self._server, self._path, self._due = server, path, 0.0
        self._logged = self._trims = 0
        self._wanted = False
        signal.signal(signal.SIGUSR1, self._want)

    def emit(self, record: logging.LogRecord) -> None:
        self._logged += 1
        print(logging.Formatter().format(record), file=sys.stderr)

    def __call__(self) -> bool:
        if self._wanted:
            self._wanted, self._due = False, 0.0
            self._trims += 1
            gc.collect()
            trim()
        if (now := time.monotonic()) >= self._due:
            self._due = now + EVERY
            self._write()
        return False

    def _want(self, *_: object) -> None:
        self._wanted = True

    def _write(self) -> None:
        counts = {
            "sessions": len(self._server._seats),
            "connected": len(self._server._by_peer),
            "waiting": len(self._server._backlog),
            "blocks": sys.getallocatedblocks(),
            "logged": self._logged,
            "trims": self._trims,
        }
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(counts))
        os.replace(fresh, self._path)


def trim() -> None:
    """Gives the allocator's free memory back; only glibc can."""
    release = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if release is not None:
        release(0)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--announce", action="store_true", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--world", default="fake")
    parser.add_argument("--batch-ms", type=float, default=20.0)
    parser.add_argument("--max-sessions", type=int, default=128)
    parser.add_argument("--lease", type=float, default=bridge_server.LEASE)
    parser.add_argument("--counts", type=Path, required=True)
    args = parser.parse_args(argv)
    exit_with_parent()
    bridge_server.LEASE = args.lease
    if args.world == "fake":
        engine = WorldEngine(FakeWorldModel(seconds=args.batch_ms / 1000), max_batch=args.max_sessions)
    else:
        engine = load_engine(args.world)
    server = bridge_server.WorldServer(engine, f"tcp://127.0.0.1:{args.port}", max_sessions=args.max_sessions)
    counts = Counts(server, args.counts)
    logging.getLogger().addHandler(counts)
    counts()
    announce(address=server.address)
    server.serve(counts)


if __name__ == "__main__":
    main()
