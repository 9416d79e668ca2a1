"""The world card: all that a window, an env or a remote client must know about a world. No weights, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from helios_world.errors import PackError, UserError, check_name
from helios_world.mouse import Mouse


def default_scale(width: int) -> int:
    """Screen pixels per world pixel at which frames of this width are about 640 wide."""
    return max(1, round(640 / width))


@dataclass(frozen=True)
class WorldCard:
    """What a world is, seen from outside.

    Attributes:
        name: of the world pack.
        height, width: of a frame, in pixels.
        fps: frames per second of world time.
        frames_per_chunk: frames that one step makes.
        buttons: what can be held, in the order of the model's action vector.
        scenes: places a session can start in; the first is the default.
        bindings: key name (as pygame.key.name gives it) to button.
        takes_prompt: it can be told in words what is to be seen.
        mouse: what moving the mouse does; None for nothing.
        outcomes: its steps have rewards and ends; see `world.Outcome`.
    """

    name: str
    height: int
    width: int
    fps: float
    frames_per_chunk: int
    buttons: tuple[str, ...]
    scenes: tuple[str, ...]
    bindings: Mapping[str, str] = field(default_factory=dict)
    takes_prompt: bool = False
    mouse: Mouse | None = None
    outcomes: bool = False

    @property
    def chunk_seconds(self) -> float:
        """World time that one chunk lasts."""
        return self.frames_per_chunk / self.fps

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(height, width, 3)."""
        return (self.height, self.width, 3)

    def check_scene(self, scene: str | None) -> str:
        """`scene`, or the default scene for None; UserError for an unknown one."""
        return self.scenes[0] if scene is None else check_name("scene", scene, self.scenes)

    def check_prompts(self) -> None:
        """UserError if the world takes no prompt."""
        if not self.takes_prompt:
            raise UserError(f"world {self.name!r} takes no prompt: it shows what it was trained on")

    def to_dict(self) -> dict[str, Any]:
        """As JSON or msgpack can carry it; without a mouse there is no key `mouse`, without outcomes none for them."""
        some = {"mouse": self.mouse and self.mouse.to_dict(), "outcomes": self.outcomes}
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in some}
        lists = {"buttons": list(self.buttons), "scenes": list(self.scenes), "bindings": dict(self.bindings)}
        return {**values, **lists, **{name: value for name, value in some.items() if value}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WorldCard:
        """The card in `values`; other keys are ignored. PackError if one is missing."""
        missing = [f.name for f in fields(cls) if f.name not in values and f.default is MISSING]
        if missing:
            raise PackError(f"world card lacks {', '.join(missing)}")
        picked = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        buttons, mouse = tuple(picked["buttons"]), picked.get("mouse")
        mouse = None if mouse is None else Mouse.from_dict(mouse, buttons)
        return cls(**{**picked, "buttons": buttons, "scenes": tuple(picked["scenes"]), "mouse": mouse})
