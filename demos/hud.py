"""What is drawn over the picture: panel, keys, toast, banner, help. Draws what it is told; keeps only fonts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pygame

INK = (236, 238, 242)
DIM = (150, 158, 170)
PANEL = (12, 14, 19, 190)
LIT = (255, 196, 92)
WARN = (255, 138, 84)
BACK = (13, 15, 20)
MONO = "dejavusansmono,menlo,consolas,liberationmono,notosansmono,couriernew"

Rect = pygame.Rect


@dataclass(frozen=True, slots=True)
class Overlay:
    """Everything over the picture. Two equal overlays look the same, so nothing is drawn twice.

    Attributes:
        rows: (label, value) of the panel; empty for no panel.
        buttons: (button, held) shown under the panel; empty for none.
        score: what the game has brought, in the corner; empty where the world keeps none.
        banner: (headline, detail) across the middle: something is wrong.
        ending: (headline, detail) across the middle, where there is no banner: the game is over.
        toast: a line at the bottom.
        sheet: (key, meaning) of the help; empty for none.
        word: one large word in the middle, such as `paused`.
        waking: seconds that have passed and what is waited for; None once there is a picture.
    """

    rows: tuple[tuple[str, str], ...] = ()
    buttons: tuple[tuple[str, bool], ...] = ()
    score: str = ""
    banner: tuple[str, str] | None = None
    ending: tuple[str, str] | None = None
    toast: str = ""
    sheet: tuple[tuple[str, str], ...] = ()
    word: str = ""
    waking: tuple[float, str] | None = None


def draw_overlay(surface: pygame.Surface, overlay: Overlay) -> None:
    """Draws over the whole surface, sized to it."""
    unit = max(0.7, min(surface.get_width() / 640, surface.get_height() / 512))
    if overlay.waking is not None:
        _draw_waking(surface, *overlay.waking, unit)
    across = overlay.banner or overlay.ending
    if across or overlay.word or overlay.sheet:
        _shade(surface, surface.get_rect(), (8, 9, 12, 120), 0)
    if overlay.word:
        _draw_word(surface, overlay.word, unit)
    if overlay.rows:
        _draw_rows(surface, overlay.rows, unit)
    if overlay.buttons:
        _draw_buttons(surface, overlay.buttons, unit)
    if overlay.score:
        _draw_score(surface, overlay.score, unit)
    if overlay.sheet:
        _draw_sheet(surface, overlay.sheet, unit)
    if across:
        _draw_banner(surface, *across, WARN if overlay.banner else LIT, unit)
    if overlay.toast:
        _draw_toast(surface, overlay.toast, unit)


def draw_icon() -> pygame.Surface:
    """The sun that docks and task bars show."""
    icon = pygame.Surface((64, 64), pygame.SRCALPHA)
    pygame.draw.circle(icon, (255, 196, 92), (32, 32), 18)
    for step in range(12):
        ray = pygame.Vector2(1, 0).rotate(30 * step)
        pygame.draw.line(icon, (255, 150, 70), ray * 22 + (32, 32), ray * 30 + (32, 32), 4)
    return icon


def help_sheet(
    keys: Mapping[str, Sequence[str]], window_keys: Sequence[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """(key, meaning) lines: the world's buttons first, then what the window itself does."""
    world = [("  ".join(map(key_label, names)), button.replace("_", " ")) for button, names in keys.items()]
    return (*world, ("", ""), *window_keys) if world else tuple(window_keys)


def key_label(name: str) -> str:
    """A key's name as printed on it."""
    return name.upper() if len(name) == 1 else name.capitalize()


@lru_cache(maxsize=32)
def _font(pixels: int, bold: bool = False) -> pygame.font.Font:
    # A missing name gives pygame's own font, which every installation has.
    return pygame.font.SysFont(MONO, max(1, pixels), bold=bold)


def _text(words: str, size: float, colour: tuple[int, int, int], bold: bool = False) -> pygame.Surface:
    return _font(round(size), bold).render(words, True, colour)


def _shade(surface: pygame.Surface, rect: Rect, colour: tuple[int, int, int, int], radius: float) -> None:
    surface.blit(_patch(rect.size, colour, round(radius)), rect)


@lru_cache(maxsize=64)
def _patch(size: tuple[int, int], colour: tuple[int, int, int, int], radius: int) -> pygame.Surface:
    if radius == 0:
        patch = pygame.Surface(size, pygame.SRCALPHA)
        patch.fill(colour)
        return patch
    # Pygame's round corners are jagged; drawn four times as large and shrunk they are not.
    large = pygame.Surface((size[0] * 4, size[1] * 4), pygame.SRCALPHA)
    large.fill((*colour[:3], 0))
    pygame.draw.rect(large, colour, large.get_rect(), border_radius=radius * 4)
    return pygame.transform.smoothscale(large, size)


def _draw_rows(surface: pygame.Surface, rows: Sequence[tuple[str, str]], unit: float) -> None:
    labels = [_text(label, 13 * unit, DIM) for label, _ in rows]
    values = [_text(value, 13 * unit, INK) for _, value in rows]
    line, pad, gap = round(18 * unit), round(10 * unit), round(14 * unit)
    left = max(label.get_width() for label in labels)
    width = left + gap + max(value.get_width() for value in values) + 2 * pad
    rect = Rect(round(10 * unit), round(10 * unit), width, line * len(rows) + 2 * pad - round(3 * unit))
    _shade(surface, rect, PANEL, 8 * unit)
    for row, (label, value) in enumerate(zip(labels, values, strict=True)):
        y = rect.y + pad + row * line
        surface.blit(label, (rect.x + pad, y))
        surface.blit(value, (rect.x + pad + left + gap, y))


def _draw_buttons(surface: pygame.Surface, buttons: Sequence[tuple[str, bool]], unit: float) -> None:
    # Longer than the picture is wide, the row shrinks as a whole.
    letters = sum(_text(name, 12 * unit, DIM).get_width() for name, _ in buttons)
    unit *= min(1.0, (surface.get_width() - 20 * unit) / (letters + 20 * unit * len(buttons)))
    gap, height = round(6 * unit), round(22 * unit)
    labels = [_text(name.replace("_", " "), 12 * unit, BACK if held else DIM) for name, held in buttons]
    x, y = round(10 * unit), surface.get_height() - height - round(10 * unit)
    for label, (_, held) in zip(labels, buttons, strict=True):
        rect = Rect(x, y, label.get_width() + round(14 * unit), height)
        _shade(surface, rect, (*LIT, 245) if held else PANEL, 6 * unit)
        surface.blit(label, label.get_rect(center=rect.center))
        x = rect.right + gap


def _draw_sheet(surface: pygame.Surface, sheet: Sequence[tuple[str, str]], unit: float) -> None:
    unit = min(unit, surface.get_height() / (20 * len(sheet) + 90))
    title = _text("Keys", 20 * unit, INK, bold=True)
    keys = [_text(key, 14 * unit, LIT) for key, _ in sheet]
    words = [_text(meaning, 14 * unit, INK) for _, meaning in sheet]
    line, pad, gap = 20 * unit, 22 * unit, 26 * unit
    left = max(key.get_width() for key in keys)
    size = (
        round(left + gap + max(word.get_width() for word in words) + 2 * pad),
        round(len(sheet) * line + title.get_height() + 10 * unit + 2 * pad),
    )
    rect = Rect((0, 0), size)
    rect.center = surface.get_rect().center
    _shade(surface, rect, (*PANEL[:3], 232), 12 * unit)
    surface.blit(title, (rect.x + pad, rect.y + pad))
    top = rect.y + pad + title.get_height() + 10 * unit
    for row, (key, word) in enumerate(zip(keys, words, strict=True)):
        surface.blit(key, (rect.x + pad + left - key.get_width(), top + row * line))
        surface.blit(word, (rect.x + pad + left + gap, top + row * line))


def _draw_score(surface: pygame.Surface, score: str, unit: float) -> None:
    label, value = _text("score", 13 * unit, DIM), _text(score, 15 * unit, LIT, bold=True)
    pad, gap = round(10 * unit), round(8 * unit)
    rect = Rect(0, round(10 * unit), label.get_width() + gap + value.get_width() + 2 * pad, round(28 * unit))
    rect.right = surface.get_width() - round(10 * unit)
    _shade(surface, rect, PANEL, 8 * unit)
    surface.blit(label, label.get_rect(midleft=(rect.x + pad, rect.centery)))
    surface.blit(value, value.get_rect(midright=(rect.right - pad, rect.centery)))


def _draw_banner(
    surface: pygame.Surface, headline: str, detail: str, colour: tuple[int, int, int], unit: float
) -> None:
    first, second = _text(headline, 17 * unit, INK, bold=True), _text(detail, 13 * unit, DIM)
    rect = Rect(0, 0, surface.get_width(), round(64 * unit))
    rect.centery = surface.get_rect().centery
    _shade(surface, rect, (20, 16, 14, 225), 0)
    pygame.draw.rect(surface, colour, Rect(0, rect.y, round(5 * unit), rect.height))
    surface.blit(first, first.get_rect(midtop=(rect.centerx, rect.y + round(11 * unit))))
    surface.blit(second, second.get_rect(midbottom=(rect.centerx, rect.bottom - round(11 * unit))))


def _draw_toast(surface: pygame.Surface, words: str, unit: float) -> None:
    size = 13 * unit
    label = _text(words, size, INK)
    room = surface.get_width() - round(52 * unit)
    # A long path keeps its end, which is what tells files apart.
    while label.get_width() > room and len(words) > 8:
        words = "..." + words[max(4, len(words) // 12) + 3 :]
        label = _text(words, size, INK)
    rect = label.get_rect().inflate(round(28 * unit), round(16 * unit))
    rect.midbottom = (surface.get_width() // 2, surface.get_height() - round(44 * unit))
    _shade(surface, rect, (*PANEL[:3], 225), 8 * unit)
    surface.blit(label, label.get_rect(center=rect.center))


def _draw_word(surface: pygame.Surface, word: str, unit: float) -> None:
    label = _text(word, 26 * unit, INK, bold=True)
    surface.blit(label, label.get_rect(center=surface.get_rect().center))


def _draw_waking(surface: pygame.Surface, seconds: float, hint: str, unit: float) -> None:
    surface.fill(BACK)
    middle = surface.get_rect().center
    headline = _text("waking the world ...", 22 * unit, INK)
    detail = _text(f"{hint}, {seconds:.0f} s", 13 * unit, DIM)
    surface.blit(headline, headline.get_rect(midbottom=(middle[0], middle[1] - 8 * unit)))
    surface.blit(detail, detail.get_rect(midtop=(middle[0], middle[1] + 26 * unit)))
    track = Rect(0, 0, round(220 * unit), round(4 * unit))
    track.center = (middle[0], middle[1] + round(10 * unit))
    _shade(surface, track, (255, 255, 255, 28), 2 * unit)
    # How long it takes is not known beforehand, so the bar wanders instead of pretending to fill.
    phase = seconds * 0.6 % 2
    part = Rect(0, 0, track.width // 4, track.height)
    part.midleft = (track.x + round((1 - abs(1 - phase)) * (track.width - part.width)), track.centery)
    pygame.draw.rect(surface, LIT, part, border_radius=round(2 * unit))
