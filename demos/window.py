"""The Pygame window: keys in, pictures out. What the world does is the link's business, what is overlaid the HUD's."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Both are read by pygame's import; the class is what docks and task bars name and group windows by.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
os.environ.setdefault("SDL_VIDEO_X11_WMCLASS", "helios-world")

import pygame

from helios_world.card import WorldCard, default_scale
from helios_world.controllers import Controller, Keyboard, check_bindings, keys_by_button
from helios_world.demos.figures import figures
from helios_world.demos.hud import Overlay, draw_icon, draw_overlay, help_sheet
from helios_world.demos.link import Link
from helios_world.demos.mouse import CaughtMouse
from helios_world.demos.prompt_line import PromptLine
from helios_world.demos.window_keys import MOUSE_KEY, PROMPT_KEY, RESERVED, WINDOW_KEYS
from helios_world.drift import measure_drift
from helios_world.errors import HeliosWorldError, UserError
from helios_world.home import home_folder
from helios_world.snapshot import SUFFIX, write_bytes

RATE = 120  # loop turns a second: half a turn is what a key waits at most on average
TOAST_SECONDS = 3.5
HUD_SECONDS = 0.25  # between looks at the figures, which are unreadable when they change faster
BACKGROUND = (0, 0, 0)
DEFAULT_SIZE = (160, 128)  # of a picture, until the world says otherwise

FADE = 3  # chunks over which the world comes to what it was told


class NoDisplay(HeliosWorldError):
    """There is no screen to open a window on."""


class Window:
    """One world in one window.

    Args:
        link: brings the generator.
        steer: makes what steers beside the keyboard, asked once per chunk; it may make None.
        scale: window pixels per world pixel at the start, less where the screen is too small; None for about 640 wide.
        on_frame: told every new frame, uint8 (height, width, 3).
        seconds: of play after which the window closes; None to go on until told.
        clock: seconds; only differences count.
    Raises:
        NoDisplay: no window can be opened here.
    """

    def __init__(
        self,
        link: Link,
        *,
        steer: Callable[[WorldCard], Controller | None] = lambda card: None,
        scale: int | None = None,
        on_frame: Callable[[np.ndarray], None] | None = None,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.link = link
        self.done = False
        self.seconds = seconds
        self.shown: Any = None  # the bridge.stream.Shown on screen
        self.first_shown: float | None = None
        self.key_to_pixels: deque[float] = deque(maxlen=4096)  # seconds, the newest last
        self._pressed: deque[tuple[int, float]] = deque(maxlen=4096)  # inputs not seen yet: number, when
        self._steer, self._on_frame, self._clock = steer, on_frame, clock
        self._controller: Controller | None = None
        self._keyboard = Keyboard({})
        self._mouse = CaughtMouse()
        self._steered: frozenset[str] = frozenset()
        self._steps: list[frozenset[str]] = []  # what the controller chose for chunk 1, 2, ...
        self._chunk: list[np.ndarray] = []  # frames of the chunk on screen, so far
        self._last_chunk: np.ndarray | None = None
        self._known: WorldCard | None = None
        self._hud = self._help = self._full = False
        self._rows: tuple[tuple[str, str], ...] = ()
        self._rows_at = self._toast_until = float("-inf")
        self._toast = ""
        self._message = ""
        self._invitation: Any = None
        self._line = PromptLine()
        self._anchor: np.ndarray | None = None  # first frame of the world, which drift is measured from
        self._saving = self._taken = 0  # number of the save waited for; pictures taken so far
        self._drawn: Any = None
        self._picture: tuple[Any, pygame.Surface] | None = None
        self._opened = clock()
        self._commands = self._command_table()
        self._open_display(scale)
        self._meet(link.card)

    def run(self, each: Callable[[float], None] | None = None) -> None:
        """Until somebody quits. `each(now)` is called every turn, before events are read."""
        while not self.done:
            if each is not None:
                each(self._clock())
            for event in pygame.event.get():
                self.handle(event)
            self.update(self._clock())
            self.draw(self._clock())
            self.link.wait(1 / RATE)

    def post_key(self, name: str, down: bool, when: float) -> None:
        """What happens when a hand moves a key: `name` as pygame has it, `when` on the window's clock."""
        kind = pygame.KEYDOWN if down else pygame.KEYUP
        pygame.event.post(pygame.event.Event(kind, key=pygame.key.key_code(name), mod=0, when=when))

    def close(self) -> None:
        """The window goes; the link is closed by whoever made it."""
        pygame.display.quit()

    def handle(self, event: pygame.event.Event) -> None:
        """One event, in the order they happened: a key that goes down and up at once is still sent down, then up."""
        if event.type == pygame.QUIT:
            self.done = True
        elif event.type == pygame.KEYDOWN:
            self._key_down(event.key, event.mod, getattr(event, "when", None) or self._clock())
        elif event.type == pygame.TEXTINPUT:
            self._line.write(event.text)
        elif event.type == pygame.KEYUP:
            self._keyboard.release(pygame.key.name(event.key))
            self._hold()
        elif event.type == pygame.MOUSEBUTTONDOWN:
            self._mouse.catch(self._has_mouse)
        elif (movement := self._mouse.movement(event)) is not None:
            self.link.stream.look(*movement)
        elif event.type == pygame.WINDOWFOCUSLOST:
            self._mouse.catch(False)
            self._keyboard.release_all()
            self._hold()
        elif event.type in (pygame.WINDOWSIZECHANGED, pygame.WINDOWEXPOSED):
            self._drawn = None

    def update(self, now: float) -> None:
        """Moves the world on: what arrived is taken in, what is due becomes the picture."""
        self.link.update(now)
        stream = self.link.stream
        if stream is None:
            return
        if self.link.card is not self._known:
            self._meet(self.link.card)
        if self._controller is not None and stream.steer is None:
            stream.steer = self._steer_chunk
        shown = stream.tick()
        if shown is not None and (shown.is_new or self.shown is None):
            self._take(shown, now)
        if self._saving and stream.saves >= self._saving:
            self._saving = 0
            self._write_save(stream.saved)
        if stream.invitation is not self._invitation:
            self._invitation = stream.invitation
            self._tell_invitation(self._invitation)
        if stream.message != self._message:
            self._message = stream.message
            if self._message and self.link.status in ("playing", "paused"):
                self.say(self._message)
        if self.seconds is not None and self.first_shown is not None and now - self.first_shown >= self.seconds:
            self.done = True

    def draw(self, now: float) -> bool:
        """Brings the screen up to date; False when it was already."""
        overlay = self._overlay(now)
        size = self._screen.get_size()
        look = (self._taken, size, overlay)
        if look == self._drawn:
            return False
        self._drawn = look
        self._screen.fill(BACKGROUND)
        view = self._view(size)
        if self.shown is not None:
            if self._picture is None or self._picture[0] != (self._taken, view.size):
                self._picture = ((self._taken, view.size), scale_picture(self.shown.pixels, view.size))
            self._screen.blit(self._picture[1], view)
        draw_overlay(self._screen.subsurface(view), overlay)
        pygame.display.flip()
        while self._pressed and self._pressed[0][0] <= self.shown.seq:
            self.key_to_pixels.append(self._clock() - self._pressed.popleft()[1])
        return True

    def say(self, words: str) -> None:
        """A line at the bottom for a few seconds."""
        self._toast, self._toast_until = words, self._clock() + TOAST_SECONDS

    def _open_display(self, scale: int | None) -> None:
        try:
            pygame.display.init()
            pygame.font.init()
            height, width = self.link.card.frame_shape[:2] if self.link.card else DEFAULT_SIZE[::-1]
            fits = min(min(wide // width, high // height) for wide, high in pygame.display.get_desktop_sizes())
            scale = max(1, min(default_scale(width) if scale is None else scale, fits))
            self._small = (width * scale, height * scale)
            pygame.display.set_icon(draw_icon())
            self._screen = pygame.display.set_mode(self._small, pygame.RESIZABLE)
        except pygame.error as error:
            raise NoDisplay(f"no window can be opened here ({error})") from None
        pygame.display.set_caption("Helios World")
        self.draw(self._clock())

    def _meet(self, card: WorldCard | None) -> None:
        if card is None:
            return
        self._known = card
        self._controller = self._steer(card)
        self._keyboard = Keyboard(check_bindings(card.bindings, card.buttons, RESERVED))
        self._name(card)

    def _name(self, card: WorldCard) -> None:
        pygame.display.set_caption(f"Helios World: {card.name}, {self.link.scene}")

    def _take(self, shown: Any, now: float) -> None:
        if self.shown is None:
            self.say("F1 shows the keys")
        if self._anchor is None or shown.chunk == 0:
            self._anchor = shown.pixels
        if self.shown is None or shown.chunk != self.shown.chunk:
            self._last_chunk = np.stack(self._chunk) if self._chunk else None
            self._chunk = []
        self.shown = shown
        self._taken += 1
        self._chunk.append(shown.pixels)
        if shown.chunk > 0:
            self.first_shown = now if self.first_shown is None else self.first_shown
            if self._on_frame is not None:
                self._on_frame(shown.pixels)

    @property
    def held(self) -> frozenset[str]:
        """Buttons held now, by keys or by the controller."""
        return self._keyboard.held | self._steered

    @property
    def is_over(self) -> bool:
        """Whether the game ended in the chunk on screen: the world stands still until another one begins."""
        return self.shown is not None and self.shown.score.over

    @property
    def _has_mouse(self) -> bool:
        """Whether moving the mouse does something here."""
        playing = self.link.stream is not None and self._controller is None and not self.link.watches
        return playing and self._known is not None and self._known.mouse is not None

    def _hold(self) -> None:
        # With a controller the keys wait for `_steer_chunk`: what it chose must hold for exactly its chunk.
        if self.link.stream is not None and self._controller is None:
            self.link.stream.hold(self.held)

    def _steer_chunk(self, chunk: int) -> frozenset[str]:
        while len(self._steps) < chunk:
            self._steps.append(self._controller.act(self._last_chunk).buttons)
        self._steered = self._steps[chunk - 1]
        return self._steered | self._keyboard.act(None).buttons

    def _key_down(self, key: int, mod: int, when: float) -> None:
        if self._line.text is not None:
            self._write_prompt(pygame.key.name(key))
        elif key == pygame.K_RETURN and mod & pygame.KMOD_ALT:
            self._toggle_full()
        elif key in self._commands:
            self._commands[key](mod)
        else:
            before = self.held
            self._keyboard.press(pygame.key.name(key))
            self._hold()
            moves = self.link.status == "playing" and not self.is_over
            if self.held != before and self._controller is None and moves:
                self._pressed.append((self.link.stream.seq, when))

    def _command_table(self) -> dict[int, Callable[[int], None]]:
        return {
            pygame.K_ESCAPE: lambda mod: self._escape(),
            pygame.K_F1: lambda mod: self._toggle_help(),
            pygame.K_h: lambda mod: self._toggle_help(),
            pygame.K_F3: lambda mod: self._toggle_hud(),
            pygame.K_F11: lambda mod: self._toggle_full(),
            pygame.K_F12: lambda mod: self._screenshot(),
            pygame.K_r: self._reset,
            pygame.K_p: lambda mod: self._pause(),
            pygame.K_F5: lambda mod: self._save(),
            pygame.K_F6: lambda mod: self._invite("watch"),
            pygame.K_F7: lambda mod: self._invite("play"),
            pygame.K_F9: lambda mod: self._load(),
            pygame.K_RETURN: lambda mod: self._open_prompt(),
        }

    def _escape(self) -> None:
        self.done = not self._mouse.caught
        self._mouse.catch(False)

    def _toggle_help(self) -> None:
        self._help = not self._help

    def _toggle_hud(self) -> None:
        self._hud, self._rows_at = not self._hud, float("-inf")

    def _toggle_full(self) -> None:
        self._full = not self._full
        if self._full:
            self._small = self._screen.get_size()
            self._screen = pygame.display.set_mode((0, 0), pygame.FULLSCREEN)
        else:
            self._screen = pygame.display.set_mode(self._small, pygame.RESIZABLE)
        self._drawn = None

    def _reset(self, mod: int) -> None:
        if self._ready():
            self.link.reset(self.link.seed if mod & pygame.KMOD_SHIFT else self.link.seed + 1)
            self._controller, self._steps = self._steer(self._known), []
            self._pressed.clear()
            self.say(f"seed {self.link.seed}")

    def _pause(self) -> None:
        if self._ready():
            self.link.stream.pause(self.link.status != "paused")

    def _save(self) -> None:
        if self._ready():
            self._saving = self.link.stream.saves + 1
            self.link.stream.save()

    def _load(self) -> None:
        if not self._ready():
            return
        path = self._save_path()
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            self.say("nothing saved yet: F5 saves")
        except OSError as error:
            self.say(f"cannot read {path}: {error.strerror}")
        else:
            self._restore(data)

    def _open_prompt(self) -> None:
        if not self._ready():
            return
        try:
            self._known.check_prompts()
        except UserError as error:
            self.say(str(error))
        else:
            self._keyboard.release_all()
            self._hold()
            pygame.key.start_text_input()
            self._line.open()

    def _write_prompt(self, key: str) -> None:
        prompt = self._line.press(key)
        if prompt is None:
            return
        try:
            self.link.stream.change_prompt(prompt, over=FADE)
        except UserError as error:
            self.say(str(error))
        else:
            self.say(prompt)

    def _restore(self, data: bytes) -> None:
        try:
            self.link.load(data)
        except UserError as error:
            self.say(str(error))
        else:
            self._anchor = None
            self._name(self._known)
            self.say("loaded")

    def _write_save(self, data: bytes) -> None:
        path = self._save_path()
        try:
            write_bytes(path, data)
        except OSError as error:
            self.say(f"cannot save to {path}: {error.strerror}")
        else:
            self.say(f"saved: {path}")

    def _save_path(self) -> Path:
        return home_folder() / "saves" / f"{self._known.name}{SUFFIX}"

    def _invite(self, verb: str) -> None:
        if self.link.server is not None:
            self.say("this game is yours alone: others join what helios-world serve serves")
        elif self._ready():
            self.link.stream.invite(verb)

    def _tell_invitation(self, invitation: Any) -> None:
        """In the terminal too, where it can be copied."""
        option = "--watch" if invitation.verb == "watch" else "--ticket"
        command = f"helios-world play --connect {invitation.address} {option} {invitation.name}"
        print(command, flush=True)
        self.say(f"the command to {invitation.verb} is in the terminal")

    def _screenshot(self) -> None:
        if self.shown is None:
            return
        folder = home_folder() / "screenshots"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            taken = {path.name for path in folder.iterdir()}
            names = (f"{self._known.name}-{self.link.scene}-{number:04}.png" for number in range(1, 10_000))
            path = folder / next(name for name in names if name not in taken)
            pygame.image.save(scale_picture(self.shown.pixels, self._view(self._screen.get_size()).size), str(path))
        except (OSError, pygame.error, StopIteration) as error:
            self.say(f"no screenshot in {folder}: {error}")
        else:
            self.say(f"screenshot: {path}")

    def _ready(self) -> bool:
        ready = self.link.status in ("playing", "paused")
        if self.link.watches:
            self.say("you only watch: whoever plays does that")
        elif not ready:
            self.say("not now: there is no generator")
        return ready and not self.link.watches

    def _view(self, size: tuple[int, int]) -> pygame.Rect:
        """The largest rectangle of the world's shape in the middle of the screen."""
        height, width = self._known.frame_shape[:2] if self._known else DEFAULT_SIZE[::-1]
        factor = min(size[0] / width, size[1] / height)
        view = pygame.Rect(0, 0, max(1, int(width * factor)), max(1, int(height * factor)))
        view.center = (size[0] // 2, size[1] // 2)
        return view

    def _overlay(self, now: float) -> Overlay:
        if self._hud and now - self._rows_at >= HUD_SECONDS:
            self._rows, self._rows_at = self._figures(), now
        trouble, figures = self.link.trouble, self._hud and not self._help
        waking = None
        if self.shown is None and trouble is None:
            waking = (math.floor((now - self._opened) * 12) / 12, self.link.hint)
        card = self._known
        return Overlay(
            rows=self._rows if figures else (),
            buttons=tuple((button, button in self.held) for button in card.buttons) if figures and card else (),
            banner=trouble,
            score=str(self.shown.score) if card and card.outcomes and self.shown is not None else "",
            ending=self._ending() if self.is_over and not self._help else None,
            toast=self._words(now),
            sheet=self._sheet() if self._help else (),
            word="paused" if self.link.status == "paused" and not self._help and not self.is_over else "",
            waking=waking,
        )

    def _ending(self) -> tuple[str, str]:
        following = "whoever plays starts the next one" if self.link.watches else "R starts the next one"
        return f"The game is over: score {self.shown.score}", following

    def _sheet(self) -> tuple[tuple[str, str], ...]:
        told = self._known is not None and self._known.takes_prompt
        idle = {key for key, used in ((PROMPT_KEY, told), (MOUSE_KEY, self._has_mouse)) if not used}
        keys = [line for line in WINDOW_KEYS if line not in idle]
        return help_sheet(keys_by_button(self._known.bindings) if self._known else {}, keys)

    def _words(self, now: float) -> str:
        if self._line.text is not None:
            return f"prompt: {self._line.text}_"
        return self._toast if now < self._toast_until else ""

    def _figures(self) -> tuple[tuple[str, str], ...]:
        stream = self.link.stream
        state = (("seed", str(self.link.seed)), ("status", self.link.status))
        if stream is None:
            return state
        seen = self.shown is not None and self._anchor is not None
        drift = measure_drift(self.shown.pixels, self._anchor) if seen else None
        return (*figures(stream.stats, self.key_to_pixels, drift), *state)


def scale_picture(pixels: np.ndarray, size: tuple[int, int]) -> pygame.Surface:
    """uint8 (height, width, 3) as a surface of `size` (width, height)."""
    height, width = pixels.shape[:2]
    source = pygame.image.frombuffer(np.ascontiguousarray(pixels), (width, height), "RGB").convert()
    # Edges stay edges at twice the size; what is left to enlarge is smoothed, which hides the grid.
    return pygame.transform.smoothscale(pygame.transform.scale2x(source), size)
