"""`open_session`: a world by name, here or on a server, with the same verbs either way."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from helios_world.engine_options import EngineOptions
from helios_world.pack import read_pack
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
    timeout: float = 10.0,
    key: str | None = None,
    server_key: str | None = None,
    **options: Any,
) -> Session | RemoteSession:
    """A live session.

    Args:
        world: name of a shipped world pack, or the path of a pack folder. Not used with `connect`.
        scene: None for the pack's first.
        connect: address of a running `helios-world serve`, such as "tcp://127.0.0.1:5557"; None generates here.
        timeout: seconds until a request that the server does not answer raises; more than one of its chunks takes.
        key, server_key: files of this client's key pair and of the server's public key, for one that asks for keys.
        options: of `EngineOptions`, such as dtype="float32" or weights="DIR": for networks in this process.
    Raises:
        UserError: an unknown world, scene or option, a damaged pack, a missing extra.
        ConnectionLost: nothing answers at `connect`.
    """
    if connect is not None:
        from helios_world.bridge.client import RemoteSession
        from helios_world.bridge.keys import read_client_keys

        session = RemoteSession(connect, timeout=timeout, keys=read_client_keys(key, server_key))
        session.reset(scene, seed=seed, start=start)
        return session
    return load_engine(world, EngineOptions.from_dict(options)).open(scene, seed=seed, start=start)[0]


@lru_cache(maxsize=2)
def load_engine(world: str, options: EngineOptions = EngineOptions()) -> WorldEngine:
    """The engine of a world pack, loaded once per process."""
    from helios_world.engine import WorldEngine
    from helios_world.errors import MissingExtra

    pack = read_pack(world)
    try:
        if pack.networks is None:
            from helios_world.released import load_released

            return WorldEngine(load_released(pack, options))
        options.fit(pack.card, checkpoint=False)
        from helios_world.generator import load_generator
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "torch", "engine") from None
    device = "cpu" if options.device == "auto" else options.device  # a world of this size gains nothing on a GPU
    model = load_generator(
        world, dtype=options.dtype, device=device, steps=options.steps, drift_correction=options.drift_correction
    )
    return WorldEngine(model)
