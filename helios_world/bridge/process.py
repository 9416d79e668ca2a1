"""`ServerProcess`: a server as a child process that never outlives its parent, and the child's side of that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from helios_world.errors import ConnectionLost, UserError

SERVE = (sys.executable, "-m", "helios_world", "serve")
_GRACE = 0.5  # seconds that a child has to end by itself once its lifeline is cut


def exit_with_parent() -> None:
    """For the child: from now on this process ends when its stdin does, which is when the parent ends or says so."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(0)  # the main thread may be deep in a world step

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def announce(**words: str) -> None:
    """For the child: the one line that the parent waits for, {"address": ...} or {"error": ...}."""
    print(json.dumps(words), flush=True)


class ServerProcess:
    """A `helios-world serve` of our own. Its log goes to our stderr.

    Args:
        args: options of `serve`, such as ["--world", "doom"]; not --port, which is picked.
        program: the command before them.
    """

    def __init__(self, args: Sequence[str] = (), *, program: Sequence[str] = SERVE):
        self._args, self._program = list(args), list(program)
        self._address: str | None = None
        self._process = self._spawn(0)

    def poll(self) -> str | None:
        """The address once the server is ready, None while it loads.

        Raises:
            UserError: the server refused its options.
            ConnectionLost: it ended before it was ready.
        """
        if self._address is None:
            self._read()
        return self._address

    def wait_ready(self, timeout: float = 60.0) -> str:
        """The address, once the server is ready. As `poll`; ConnectionLost after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (address := self.poll()) is None:
            if time.monotonic() > deadline:
                raise ConnectionLost(f"the server was not ready within {timeout:g} s")
            time.sleep(0.01)
        return address

    @property
    def alive(self) -> bool:
        """Whether the process runs; it may still be loading."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def restart(self) -> None:
        """Ends the server if it still runs and starts it again on the same port, so that clients find it."""
        port = int(self._address.rsplit(":", 1)[1]) if self._address else self._port
        self._end()
        self._address = None
        self._process = self._spawn(port)

    def close(self) -> None:
        """Ends the server; no process is left, not even a stopped one."""
        self._end()

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        self._port = port
        self._line = b""
        process = subprocess.Popen(
            [*self._program, "--port", str(port), "--announce", *self._args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C in a terminal is for the parent, which ends the child in its own time
        )
        os.set_blocking(process.stdout.fileno(), False)
        return process

    def _read(self) -> None:
        ended = self._process.poll()
        while data := self._process.stdout.read(4096):
            self._line += data
        if b"\n" in self._line:
            try:
                words = json.loads(self._line.split(b"\n", 1)[0])
                self._address, error = words.get("address"), words.get("error")
            except (ValueError, AttributeError):
                raise ConnectionLost(f"the server said {self._line[:200]!r} instead of its address") from None
            if self._address is None:
                raise UserError(error or "the server gave no address")
        elif ended is not None:
            raise ConnectionLost(f"the server ended with exit code {ended} before it was ready")

    def _end(self) -> None:
        if self._process.stdin.closed:
            return
        self._process.stdin.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
