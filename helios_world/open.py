"""`open_session`: a world by name, here or on a server, with the same verbs either way."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from helios_world.world import Start

if TYPE_CHECKING:
    from helios_world.bridge.client import RemoteSession
    from helios_world.engine import Session, WorldEngine


def open_session(
    world: str = "doom",
    scene: str | None = None,
    *,
    seed: int = 0,
    start: Start = Start(),
    connect: str | None = None,
    dtype: str = "auto",
) -> Session | RemoteSession:
    """A live session.

    Args:
        world: name of a shipped world pack, or the path of a pack folder. Not used with `connect`.
        scene: None for the pack's first.
        connect: address of a running `helios-world serve`, such as "tcp://127.0.0.1:5557"; None generates here.
        dtype: "auto", "float32" or "bfloat16": number format of a generator in this process.
    Raises:
        UserError: an unknown world or scene, a damaged pack, a missing extra.
        ConnectionLost: nothing answers at `connect`.
    """
    if connect is not None:
        from helios_world.bridge.client import RemoteSession

        session = RemoteSession(connect)
        session.reset(scene, seed=seed, start=start)
        return session
    return load_engine(world, dtype).open(scene, seed=seed, start=start)[0]


@lru_cache(maxsize=2)
def load_engine(world: str, dtype: str = "auto", device: str = "cpu") -> WorldEngine:
    """The engine of a world pack, loaded once per process."""
    from helios_world.engine import WorldEngine
    from helios_world.errors import MissingExtra

    try:
        from helios_world.generator import load_generator
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "torch", "engine") from None
    return WorldEngine(load_generator(world, dtype=dtype, device=device))
