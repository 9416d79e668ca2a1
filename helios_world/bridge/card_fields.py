"""A world card in a message header."""

from __future__ import annotations

from typing import Any

from helios_world.bridge import fields as check
from helios_world.card import WorldCard
from helios_world.errors import HeliosWorldError, ProtocolError
from helios_world.mouse import Mouse

NAME = check.text(256)
CARD: dict[str, check.Check] = {
    "name": NAME,
    "height": check.count,
    "width": check.count,
    "fps": check.number,
    "frames_per_chunk": check.count,
    "buttons": check.list_of(check.text(64), 64),
    "scenes": check.list_of(NAME, 256),
    "takes_prompt": check.flag,
}
_NEEDED = check.map_of(CARD)


def read_card(name: str, value: Any) -> WorldCard:
    """The card in a map. ProtocolError for a key that is missing or out of range; unknown ones are ignored."""
    found = _NEEDED(name, value)
    bindings = value.get("bindings")
    if type(bindings) is not dict:
        raise ProtocolError(f"{name}.bindings must be a map")
    pairs = {NAME(name, key): NAME(name, button) for key, button in bindings.items()}
    if not found["scenes"] or min(found["height"], found["width"], found["fps"], found["frames_per_chunk"]) <= 0:
        raise ProtocolError(f"{name} must have a scene and sizes above 0")
    mouse = _mouse(f"{name}.mouse", value.get("mouse"), found["buttons"])
    outcomes = check.flag(f"{name}.outcomes", value.get("outcomes", False))
    return WorldCard(**found, bindings=pairs, mouse=mouse, outcomes=outcomes)


def _mouse(name: str, value: Any, buttons: tuple[str, ...]) -> Mouse | None:
    if value is None:
        return None
    if type(value) is not dict:
        raise ProtocolError(f"{name} must be a map")
    try:
        return Mouse.from_dict({key: value[key] for key in Mouse.__dataclass_fields__ if key in value}, buttons)
    except HeliosWorldError as error:
        raise ProtocolError(f"{name}: {error}") from None
