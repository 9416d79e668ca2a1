"""The real game behind a scene: ViZDoom, two tics a frame, with the buttons that the world is to learn."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helios_world.errors import MissingExtra, UserError, check_name
from helios_world.mouse import Mouse

BUTTONS = ("forward", "back", "strafe_left", "strafe_right", "turn_left", "turn_right", "attack")
GAME_BUTTONS = ("MOVE_FORWARD", "MOVE_BACKWARD", "MOVE_LEFT", "MOVE_RIGHT", "TURN_LEFT", "TURN_RIGHT", "ATTACK")
SCENARIOS = {"maze": "my_way_home"}
TICS_PER_FRAME = 2
FPS = 35 / TICS_PER_FRAME
HEIGHT, WIDTH = 128, 160
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
    """

    frame: np.ndarray
    pose: tuple[float, float, float]
    reach: tuple[float, float, float]


class Game:
    """One ViZDoom process. `reset` starts an episode, `step` applies buttons for one frame."""

    def __init__(self, scene: str, seed: int, *, episode_tics: int = 1050):
        try:
            import vizdoom
        except ModuleNotFoundError:
            raise MissingExtra("vizdoom", "doom") from None
        check_name("scene", scene, SCENARIOS)
        game = vizdoom.DoomGame()
        game.load_config(str(Path(vizdoom.scenarios_path) / f"{SCENARIOS[scene]}.cfg"))
        game.set_doom_game_path(str(Path(vizdoom.__file__).parent / "freedoom2.wad"))
        self._scratch = tempfile.TemporaryDirectory(prefix="helios-world-")  # the game writes its settings somewhere
        game.set_doom_config_path(str(Path(self._scratch.name) / "game.ini"))
        game.set_window_visible(False)
        game.set_screen_resolution(vizdoom.ScreenResolution.RES_320X256)
        game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        game.set_depth_buffer_enabled(True)
        game.set_available_buttons([getattr(vizdoom.Button, name) for name in GAME_BUTTONS])
        names = ("POSITION_X", "POSITION_Y", "ANGLE")
        game.set_available_game_variables([getattr(vizdoom.GameVariable, name) for name in names])
        game.set_episode_timeout(episode_tics)
        game.set_seed(seed % 2**31)
        game.init()
        self._game = game

    def reset(self) -> View:
        """The first view of a new episode, at one of the map's starting places."""
        self._game.new_episode()
        view = self._view()
        if view is None:
            raise UserError("the game ended an episode before its first frame")
        return view

    def step(self, buttons: np.ndarray) -> View | None:
        """The view after `buttons` (7 zeros or ones) were held for one frame; None once the episode is over."""
        self._game.make_action([float(b) for b in buttons], TICS_PER_FRAME)
        return self._view()

    def close(self) -> None:
        self._game.close()
        self._scratch.cleanup()

    def _view(self) -> View | None:
        state = self._game.get_state()
        if state is None:
            return None
        band = state.depth_buffer[96:144:4]  # around the horizon
        left, ahead, right = (float(band[:, i : i + 64].mean()) for i in (0, 128, 256))
        return View(halved(state.screen_buffer), tuple(state.game_variables), (left, ahead, right))


class Walker:
    """A player that gets around: walks towards open space, looks about, strafes, stands still, fumbles.

    A random walker stares at walls; this one reads the depth buffer, and still holds every button in every mixture.
    """

    NEAR = 9.0  # depth units; walls closer than this are turned away from

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self._plan: Iterator[np.ndarray] = iter(())
        self._dodge = 0  # -1 turning left, 1 turning right, 0 walking
        self._exploring = False

    def act(self, view: View) -> np.ndarray:
        """Buttons for the next frame, uint8 (7,)."""
        buttons = next(self._plan, None)
        while buttons is None:
            self._plan = self._intend()
            buttons = next(self._plan, None)
        return self._steer(buttons.copy(), view) if buttons[0] and self._exploring else buttons

    def _intend(self) -> Iterator[np.ndarray]:
        """The next few frames' buttons."""
        rng, kind = self._rng, self._rng.random()
        self._exploring = kind < 0.6
        if self._exploring:
            turn = rng.choice([0, -1, 1], p=[0.6, 0.2, 0.2])
            return iter([_buttons(1, _rare(rng, 0.12), turn, rng.random() < 0.04)] * int(rng.integers(2, 13)))
        if kind < 0.72:
            return iter([_buttons(0, 0, rng.choice([-1, 1]), False)] * int(rng.integers(3, 31)))
        if kind < 0.79:
            return iter([_buttons(0, 0, 0, False)] * int(rng.integers(3, 13)))
        axes = [int(rng.choice([-1, 0, 1], p=p)) for p in ([0.3, 0.3, 0.4], [0.25, 0.5, 0.25], [0.3, 0.4, 0.3])]
        return iter([_buttons(*axes, rng.random() < 0.15)] * int(rng.integers(1, 11)))

    def _steer(self, buttons: np.ndarray, view: View) -> np.ndarray:
        left, ahead, right = view.reach
        if ahead > 1.5 * self.NEAR:
            self._dodge = 0
        elif ahead < self.NEAR and not self._dodge:
            self._dodge = -1 if left > right else 1
        if self._dodge:
            buttons[[4, 5]] = (self._dodge < 0, self._dodge > 0)
        return buttons


def halved(frame: np.ndarray) -> np.ndarray:
    """uint8 (2h, 2w, 3) to (h, w, 3), the mean of each 2x2 block."""
    wide = frame.astype(np.uint16)
    total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


def _rare(rng: np.random.Generator, p: float) -> int:
    return int(rng.choice([-1, 0, 1], p=[p / 2, 1 - p, p / 2]))


def _buttons(ahead: int, aside: int, turn: int, attack: bool) -> np.ndarray:
    """-1, 0 or 1 per axis (negative is back and left) to the seven buttons."""
    held = (ahead > 0, ahead < 0, aside < 0, aside > 0, turn < 0, turn > 0, attack)
    return np.array(held, np.uint8)
