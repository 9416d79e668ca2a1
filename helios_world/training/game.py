"""The real game behind a scene: ViZDoom, two tics a frame, with the buttons that the world is to learn."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from helios_world.errors import MissingExtra, UserError, check_name
from helios_world.mouse import Mouse

BUTTONS = ("forward", "back", "strafe_left", "strafe_right", "turn_left", "turn_right", "attack")
GAME_BUTTONS = ("MOVE_FORWARD", "MOVE_BACKWARD", "MOVE_LEFT", "MOVE_RIGHT", "TURN_LEFT", "TURN_RIGHT", "ATTACK")
VARIABLES = ("POSITION_X", "POSITION_Y", "ANGLE", "HEALTH")


@dataclass(frozen=True)
class Scenario:
    """The real game of a scene.

    Attributes:
        name: of the scenario that comes with ViZDoom.
        buttons: those that act; the others may be held, and do nothing.
        episode_tics: after which a game is over even if nothing ends it.
        hud: the picture shows health and ammunition.
        from_beginning: a world starts at the beginning of a game, where health and ammunition are full.
        buffers: that are read beside the picture: "depth" tells how open a view is, "labels" where monsters are.
        rewards: of the game's own rewards, those that are changed: ViZDoom's setter to value.
    """

    name: str
    buttons: tuple[str, ...]
    episode_tics: int
    hud: bool
    from_beginning: bool
    buffers: tuple[str, ...]
    rewards: Mapping[str, float]


SCENARIOS = {
    # 1 for the armour, which ends the game
    "maze": Scenario("my_way_home", BUTTONS, 1050, False, False, ("depth",), {"set_living_reward": 0.0}),
    # 1 for each monster killed; death ends the game
    "arena": Scenario(
        "defend_the_center",
        ("turn_left", "turn_right", "attack"),
        2100,
        True,
        True,
        ("labels",),
        {"set_death_reward": 0.0},
    ),
}
TICS_PER_FRAME = 2
FPS = 35 / TICS_PER_FRAME
HEIGHT, WIDTH = 128, 160
CELL = 8  # pixels, of a frame, that a cell is wide and high
LEAST_MONSTER = 4  # pixels high in a frame: smaller ones do not count as seen
BINDINGS = {
    "w": "forward",
    "up": "forward",
    "s": "back",
    "down": "back",
    "a": "strafe_left",
    "d": "strafe_right",
    "left": "turn_left",
    "q": "turn_left",
    "right": "turn_right",
    "e": "turn_right",
    "space": "attack",
}
MOUSE = Mouse(35.0, left="turn_left", right="turn_right")  # a frame of turning is 3.5 to 7 degrees: a tenth a count


@dataclass(frozen=True, slots=True)
class View:
    """What the game shows at one frame.

    Attributes:
        frame: uint8 (128, 160, 3).
        pose: x, y in map units and heading in degrees.
        reach: how open the view is to the left, ahead and to the right, in the game's depth units; zeros in a scene
            whose depth is not read.
        health: 0 to 100.
        reward: of the step that led to this frame.
        target: pixels, of a frame, from its middle to the nearest monster in it, right is positive; None without one.
        actors: uint8 (16, 20), how much of each cell of 8x8 pixels monsters cover: 255 is all of it.
    """

    frame: np.ndarray
    pose: tuple[float, float, float]
    reach: tuple[float, float, float] = (0.0, 0.0, 0.0)
    health: float = 100.0
    reward: float = 0.0
    target: float | None = None
    actors: np.ndarray = field(default_factory=lambda: np.zeros((HEIGHT // CELL, WIDTH // CELL), np.uint8))


@dataclass(frozen=True, slots=True)
class Ending:
    """How an episode ended.

    Attributes:
        reward: of the step that ended it, after its last frame.
        by_itself: by the game's rules, not because its time was up.
    """

    reward: float
    by_itself: bool


class Game:
    """One ViZDoom process. `reset` starts an episode, `step` applies buttons for one frame.

    Attributes:
        ending: how the last episode ended; None until one has.
    """

    def __init__(self, scene: str, seed: int, *, episode_tics: int | None = None):
        try:
            import vizdoom
        except ModuleNotFoundError:
            raise MissingExtra("vizdoom", "doom") from None
        check_name("scene", scene, SCENARIOS)
        self._scenario, self.ending = SCENARIOS[scene], None
        self._scratch = tempfile.TemporaryDirectory(prefix="helios-world-")  # the game writes its settings somewhere
        game = vizdoom.DoomGame()
        game.set_doom_config_path(str(Path(self._scratch.name) / "game.ini"))
        _configure(game, vizdoom, self._scenario)
        game.set_episode_timeout(self._scenario.episode_tics if episode_tics is None else episode_tics)
        game.set_seed(seed % 2**31)
        game.init()
        self._game = game

    def reset(self) -> View:
        """The first view of a new episode, at one of the map's starting places."""
        self._game.new_episode()
        view = self._view(0.0)
        if view is None:
            raise UserError("the game ended an episode before its first frame")
        return view

    def step(self, buttons: np.ndarray) -> View | None:
        """The view after `buttons` (7 zeros or ones) were held for one frame; None once the episode is over."""
        held = [float(b) for b, name in zip(buttons, BUTTONS, strict=True) if name in self._scenario.buttons]
        reward = self._game.make_action(held, TICS_PER_FRAME)
        view = self._view(reward)
        if view is None:
            self.ending = Ending(reward, not self._game.is_episode_timeout_reached())
        return view

    def close(self) -> None:
        self._game.close()
        self._scratch.cleanup()

    def _view(self, reward: float) -> View | None:
        state = self._game.get_state()
        if state is None:
            return None
        *pose, health = state.game_variables
        seen = {}
        if "depth" in self._scenario.buffers:
            band = state.depth_buffer[96:144:4]  # around the horizon
            seen["reach"] = tuple(float(band[:, i : i + 64].mean()) for i in (0, 128, 256))
        if "labels" in self._scenario.buffers:
            monsters = [label for label in state.labels if label.object_category == "Monster"]
            seen["target"] = _nearest(monsters)
            seen["actors"] = covered(state.labels_buffer, [monster.value for monster in monsters])
        return View(halved(state.screen_buffer), tuple(pose), health=health, reward=reward, **seen)


def _configure(game: Any, vizdoom: Any, scenario: Scenario) -> None:
    """What all games of a scenario have in common, on one that is not running yet."""
    game.load_config(str(Path(vizdoom.scenarios_path) / f"{scenario.name}.cfg"))
    game.set_doom_game_path(str(Path(vizdoom.__file__).parent / "freedoom2.wad"))
    game.set_window_visible(False)
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_320X256)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_depth_buffer_enabled("depth" in scenario.buffers)
    game.set_labels_buffer_enabled("labels" in scenario.buffers)
    game.set_render_hud(scenario.hud)
    game.set_render_minimal_hud(scenario.hud)
    game.set_render_screen_flashes(True)
    for setter, value in scenario.rewards.items():
        getattr(game, setter)(value)
    acting = [name for button, name in zip(BUTTONS, GAME_BUTTONS, strict=True) if button in scenario.buttons]
    game.set_available_buttons([getattr(vizdoom.Button, name) for name in acting])
    game.set_available_game_variables([getattr(vizdoom.GameVariable, name) for name in VARIABLES])


def _nearest(monsters: Sequence[Any]) -> float | None:
    """`View.target` of what the game labels as monsters."""
    seen = (monster for monster in monsters if monster.height >= 2 * LEAST_MONSTER)
    nearest = max(seen, key=lambda monster: monster.height, default=None)
    return None if nearest is None else (nearest.x + nearest.width / 2) / 2 - WIDTH / 2


def covered(labels: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """How much of each cell of 2 CELL x 2 CELL labels has one of the values: uint8 (h, w), 255 is all of it.

    Args:
        labels: uint8 (2 CELL h, 2 CELL w).
    """
    size, wanted = 2 * CELL, np.zeros(labels.shape, bool)
    for value in values:
        wanted |= labels == value
    height, width = (length // size for length in labels.shape)
    columns = wanted.view(np.uint8).reshape(height, size, width * size).sum(axis=1, dtype=np.uint8)
    counts = columns.reshape(height, width, size).sum(axis=2, dtype=np.uint16)
    return ((255 * counts + size * size // 2) // (size * size)).astype(np.uint8)


def halved(frame: np.ndarray) -> np.ndarray:
    """uint8 (2h, 2w, 3) to (h, w, 3), the mean of each 2x2 block."""
    wide = frame.astype(np.uint16)
    total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


def buttons_of(ahead: int, aside: int, turn: int, attack: bool) -> np.ndarray:
    """-1, 0 or 1 per axis (negative is back and left) to the seven buttons."""
    held = (ahead > 0, ahead < 0, aside < 0, aside > 0, turn < 0, turn > 0, attack)
    return np.array(held, np.uint8)
