"""The generator as a window sees it: its process, its stream, and bringing both back when they go away. No pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from helios_world.card import WorldCard

PATIENCE = 4.0  # seconds between restarts of a generator that keeps dying


class Link:
    """Starts a session as soon as there is a server, and restarts our own server when it dies.

    Attributes:
        stream: a bridge.stream.WorldStream; None until there is an address to connect to.
        seed: of the world being played.
    """

    def __init__(
        self,
        connect: Callable[[str], Any],
        *,
        scene: str | None,
        seed: int,
        server: Any = None,
        address: str | None = None,
        card: WorldCard | None = None,
    ):
        """
        Args:
            connect: makes a WorldStream for an address.
            server: our own bridge.process.ServerProcess; or None, with the `address` of somebody else's.
            card: of the world, where it is known before the server says so.
        """
        self.stream: Any = None
        self.server = server
        self.seed = seed
        self._connect, self._address, self._card, self._scene = connect, address, card, scene
        self._restarted = float("-inf")
        self._welcomed = False

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
        """`waking` before the first contact, then what the stream says."""
        if not self._welcomed:
            return "waking"
        return self.stream.status

    @property
    def hint(self) -> str:
        """What is waited for while `waking`."""
        return "loading the generator" if self.server is not None else f"waiting for {self._address}"

    @property
    def trouble(self) -> str | None:
        """One line on what is wrong and what happens about it; None while all is well."""
        if self.status not in ("lost", "connecting"):
            return None
        return "generator lost: restarting" if self.server else f"generator lost: waiting for {self._address}"

    def update(self, now: float) -> None:
        """To be called often. UserError when our server cannot start at all, or the scene is unknown there."""
        if self.stream is None:
            address = self._address if self.server is None else self.server.poll()
            if address is None:
                return
            self._address = address
            self.stream = self._connect(address)
            self.stream.start(self._scene, self.seed)
        if self.server is not None and not self.server.alive and now - self._restarted > PATIENCE:
            self._restarted = now
            self.server.restart()
        if not self._welcomed and self.stream.card is not None:
            self.stream.card.check_scene(self._scene)
            self._welcomed = True

    def reset(self, seed: int) -> None:
        """Starts the scene again."""
        self.seed = seed
        self.stream.reset(self._scene, seed)

    def close(self) -> None:
        """Leaves the session and ends our own server."""
        if self.stream is not None:
            self.stream.close()
        if self.server is not None:
            self.server.close()
