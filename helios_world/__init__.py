"""Helios World: playable, learnable, streamable worlds made by an autoregressive video generator.

Importing this package is light: no torch, no pygame. `open_session` loads what it needs when called.
It registers the env, so that `gym.make("helios_world:HeliosWorld-v0")` works whatever was imported first.
"""

from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from helios_world.action import NOOP, Action, ActionLatch
    from helios_world.card import WorldCard
    from helios_world.engine import Chunk, Session, WorldEngine
    from helios_world.errors import HeliosWorldError, UserError
    from helios_world.open import open_session

# A checkout keeps three subpackages beside this folder; a wheel has them inside.
_root = _Path(__file__).resolve().parent.parent
_in_checkout = (_root / "pyproject.toml").is_file() and (_root / "envs" / "__init__.py").is_file()
if _in_checkout:
    __path__.append(str(_root))

import helios_world.envs  # noqa: E402, F401 - registers the env; found through the lines above

_EXPORTS = {
    "Action": "action",
    "ActionLatch": "action",
    "NOOP": "action",
    "Chunk": "engine",
    "HeliosWorldError": "errors",
    "Session": "engine",
    "UserError": "errors",
    "WorldCard": "card",
    "WorldEngine": "engine",
    "open_session": "open",
}
__all__ = [
    "NOOP",
    "Action",
    "ActionLatch",
    "Chunk",
    "HeliosWorldError",
    "Session",
    "UserError",
    "WorldCard",
    "WorldEngine",
    "open_session",
]


def __getattr__(name: str):
    if name == "__version__" and _in_checkout:  # which may not be installed, or since an older version
        import tomllib

        return tomllib.loads((_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if name == "__version__":
        from importlib.metadata import version

        return version("helios-world")
    if name in _EXPORTS:
        from importlib import import_module

        return getattr(import_module(f"helios_world.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module 'helios_world' has no attribute {name!r}")
