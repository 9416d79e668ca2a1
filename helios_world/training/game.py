"""The real game behind a scene: ViZDoom, two tics a frame, with the buttons that the world is to learn."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
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
        rewards: of the game's own rewards, those that are changed: ViZDoom's setter to value.
    """

    name: str
    buttons: tuple[str, ...]
    episode_tics: int
    hud: bool
    from_beginning: bool
    rewards: Mapping[str, float]


SCENARIOS = {
    # 1 for the armour, which ends the game
    "maze": Scenario("my_way_home", BUTTONS, 1050, False, False, {"set_living_reward": 0.0}),
    # 1 for each monster killed; death ends the game
    "arena": Scenario(
        "defend_the_center", ("turn_left", "turn_right", "attack"), 2100, True, True, {"set_death_reward": 0.0}
    ),
}
TICS_PER_FRAME = 2
FPS = 35 / TICS_PER_FRAME
HEIGHT, WIDTH = 128, 160
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
        reach: how open the view is to the left, ahead and to the right, in the game's depth units.
        health: 0 to 100.
        reward: of the step that led to this frame.
        target: pixels, of a frame, from its middle to the nearest monster in it, right is positive; None without one.
    """

    frame: np.ndarray
    pose: tuple[float, float, float]
    reach: tuple[float, float, float]
    health: float = 100.0
    reward: float = 0.0
    target: float | None = None


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
        band = state.depth_buffer[96:144:4]  # around the horizon
        left, ahead, right = (float(band[:, i : i + 64].mean()) for i in (0, 128, 256))
        monsters = [m for m in state.labels if m.object_category == "Monster" and m.height >= 2 * LEAST_MONSTER]
        nearest = max(monsters, key=lambda monster: monster.height, default=None)
        target = None if nearest is None else (nearest.x + nearest.width / 2) / 2 - WIDTH / 2
        *pose, health = state.game_variables
        return View(halved(state.screen_buffer), tuple(pose), (left, ahead, right), health, reward, target)


def _configure(game: Any, vizdoom: Any, scenario: Scenario) -> None:
    """What all games of a scenario have in common, on one that is not running yet."""
    game.load_config(str(Path(vizdoom.scenarios_path) / f"{scenario.name}.cfg"))
    game.set_doom_game_path(str(Path(vizdoom.__file__).parent / "freedoom2.wad"))
    game.set_window_visible(False)
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_320X256)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_depth_buffer_enabled(True)
    game.set_labels_buffer_enabled(True)
    game.set_render_hud(scenario.hud)
    game.set_render_minimal_hud(scenario.hud)
    game.set_render_screen_flashes(True)
    for setter, value in scenario.rewards.items():
        getattr(game, setter)(value)
    acting = [name for button, name in zip(BUTTONS, GAME_BUTTONS, strict=True) if button in scenario.buttons]
    game.set_available_buttons([getattr(vizdoom.Button, name) for name in acting])
    game.set_available_game_variables([getattr(vizdoom.GameVariable, name) for name in VARIABLES])


def halved(frame: np.ndarray) -> np.ndarray:
    """uint8 (2h, 2w, 3) to (h, w, 3), the mean of each 2x2 block."""
    wide = frame.astype(np.uint16)
    total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


def buttons_of(ahead: int, aside: int, turn: int, attack: bool) -> np.ndarray:
    """-1, 0 or 1 per axis (negative is back and left) to the seven buttons."""
    held = (ahead > 0, ahead < 0, aside < 0, aside > 0, turn < 0, turn > 0, attack)
    return np.array(held, np.uint8)
