"""The generator as a window sees it: its process, its stream, and bringing both back when they go away. No pixels."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from helios_world.card import WorldCard
from helios_world.errors import HeliosWorldError
from helios_world.snapshot import scene_and_seed
from helios_world.world import Start

PATIENCE = 4.0  # seconds between restarts of a generator that keeps dying
GOES_ON = "the world goes on where it was as soon as it is back"


class Link:
    """Starts a session as soon as there is a server, and restarts our own server when it dies.

    Attributes:
        stream: a bridge.stream.WorldStream, or a bridge.spectator.Spectator; None until there is an address.
        seed: of the world being played.
        watches: somebody else plays.
    """

    def __init__(
        self,
        connect: Callable[[str], Any],
        *,
        scene: str | None,
        seed: int,
        start: Start = Start(),
        joins: bool = False,
        watches: bool = False,
        server: Any = None,
        address: str | None = None,
        card: WorldCard | None = None,
    ):
        """
        Args:
            connect: makes a WorldStream, or a Spectator, for an address.
            start: what worlds start from.
            joins: the session is there already, so none is started.
            watches: somebody else plays it.
            server: our own bridge.process.ServerProcess; or None, with the `address` of somebody else's.
            card: of the world, where it is known before the server says so.
        """
        self.stream: Any = None
        self.server = server
        self.seed = seed
        self._joins, self.watches = joins, watches
        self._connect, self._address, self._card, self._scene, self._start = connect, address, card, scene, start
        self._restarted = float("-inf")
        self._failure = ""

    @property
    def card(self) -> WorldCard | None:
        """Of the world that is played; None while nothing is known."""
        return (self.stream.card if self.stream is not None else None) or self._card

    @property
    def scene(self) -> str | None:
        """Where the session starts; None while nothing is known."""
        return self._scene if self._scene or self.card is None else self.card.scenes[0]

    @property
    def status(self) -> str:
        """`waking` before the first picture, then `playing`, `paused` or `lost`."""
        if self.stream is None or self.stream.status == "connecting":
            return "waking"
        return self.stream.status

    @property
    def hint(self) -> str:
        """What is waited for while `waking`."""
        return "loading the generator" if self.server is not None else f"waiting for {self._address}"

    @property
    def trouble(self) -> tuple[str, str] | None:
        """What is wrong, and what happens about it; None while all is well."""
        if self.status != "lost":
            return None
        if self.server is None:
            return f"generator lost: waiting for {self._address}", GOES_ON
        return "generator lost: restarting", self._failure or GOES_ON

    def update(self, now: float) -> None:
        """To be called often.

        Raises:
            UserError: our server refuses to start.
            ConnectionLost: our server ended before it was ever ready.
        """
        if self.stream is None:
            address = self._address if self.server is None else self.server.poll()
            if address is None:
                return
            self._address = address
            self.stream = self._connect(address)
            if not self._joins:
                self.stream.start(self._scene, self.seed, self._start)
        elif self.server is not None:
            self._keep_alive(now)

    def wait(self, seconds: float) -> None:
        """Sleeps until there may be something new to show, `seconds` at most."""
        if self.stream is None:
            time.sleep(seconds)
        else:
            self.stream.wait(seconds)

    def reset(self, seed: int) -> None:
        """Starts the scene again."""
        self.seed = seed
        self.stream.reset(self._scene, seed, self._start)

    def load(self, snapshot: bytes) -> None:
        """Goes on with a world that was saved: its scene and seed are what `reset` starts again.

        Raises:
            UserError: it is damaged, too large, or of a scene that this world does not have.
        """
        scene, seed = scene_and_seed(snapshot)
        scene = self.card.check_scene(scene)
        self.stream.load(snapshot)
        self._scene, self.seed = scene, seed

    def _keep_alive(self, now: float) -> None:
        try:
            if self.server.poll() is not None:
                self._failure = ""
        except HeliosWorldError as error:  # the new one did not get as far as being ready
            self._failure = str(error)
        if not self.server.alive and now - self._restarted > PATIENCE:
            self._restarted = now
            self.server.restart()

    def close(self) -> None:
        """Leaves the session and ends our own server."""
        if self.stream is not None:
            self.stream.close()
        if self.server is not None:
            self.server.close()
