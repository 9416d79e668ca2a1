"""What was seen, on disk: a video, and a sheet of pictures that shows it at a glance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from helios_world.card import WorldCard, default_scale
from helios_world.errors import MissingExtra, UserError
from helios_world.world import Frames

PAPER, INK, DIM = (18, 20, 24), (235, 235, 235), (140, 147, 158)
QUALITY = "16"  # x264's crf: close to what was seen


def check_target(path: Path, suffix: str) -> Path:
    """`path`, or UserError unless a file of this suffix can be written there. Writes nothing."""
    if path.suffix.lower() != suffix:
        raise UserError(f"cannot record to {path}: the name must end in {suffix}")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UserError(f"cannot record to {path}: there is no folder {folder}")
    if path.is_dir():
        raise UserError(f"cannot record to {path}: it is a folder")
    scratch = _scratch(path)
    try:
        scratch.touch()
        scratch.unlink()
    except OSError as error:
        raise UserError(f"cannot record to {path}: {error.strerror}") from None
    return path


class VideoWriter:
    """An mp4 that grows frame by frame. It takes its name only when `close` has finished it.

    When it cannot be written any more, as on a full disk, `write` raises UserError once and leaves no file; what is
    written after that is dropped, so that a game may go on without, and `close` says it again.
    """

    def __init__(self, path: Path):
        try:
            import av
        except ModuleNotFoundError:
            raise MissingExtra("av", "play") from None
        self.path = path
        self.frames = 0
        self._failure = ""
        self._av = av
        self._container: Any = None  # until the first frame says of which world
        self._stream: Any = None

    def write(self, frames: Iterable[np.ndarray], card: WorldCard) -> None:
        """Appends frames of `card`'s world, each uint8 (height, width, 3)."""
        if self._failure:
            return
        scale = default_scale(card.width)
        with self._giving_up():
            if self._container is None:
                self._open(card)
            for pixels in frames:
                large = np.ascontiguousarray(pixels.repeat(scale, 0).repeat(scale, 1))
                self._mux(self._av.VideoFrame.from_ndarray(large, format="rgb24"))
                self.frames += 1

    def close(self) -> None:
        """Finishes the file and gives it its name; without a frame there is no file."""
        if self._failure:
            raise UserError(self._failure)
        if self._container is not None:
            with self._giving_up():
                self._mux(None)
                self._container.close()
                _scratch(self.path).replace(self.path)

    def abort(self) -> None:
        """Leaves nothing behind."""
        if self._container is not None:
            with suppress(OSError):  # what made us give up may forbid to finish, too
                self._container.close()
            _scratch(self.path).unlink(missing_ok=True)
            self._container = None

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.abort()
            self._failure = f"cannot record to {self.path}: {error.strerror}"
            raise UserError(self._failure) from None

    def _open(self, card: WorldCard) -> None:
        self._container = self._av.open(str(_scratch(self.path)), "w", format="mp4", options={"movflags": "faststart"})
        self._stream = self._container.add_stream("libx264", rate=Fraction(card.fps).limit_denominator(1000))
        scale = default_scale(card.width)
        self._stream.width, self._stream.height = card.width * scale, card.height * scale
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": QUALITY, "preset": "veryfast"}

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)


@contextmanager
def open_video(path: Path | None) -> Iterator[VideoWriter | None]:
    """A writer that finishes when the block ends and leaves nothing when it fails; None for no path."""
    if path is None:
        yield None
        return
    writer = VideoWriter(path)
    try:
        yield writer
    except KeyboardInterrupt:
        writer.close()  # the player's way to stop; what was seen is kept
        raise
    except BaseException:
        writer.abort()
        raise
    writer.close()


class ContactSheet:
    """Evenly spaced frames of any number, each with what was held under it. Memory stays bounded."""

    def __init__(self, card: WorldCard, *, columns: int = 4, rows: int = 5):
        self._card = card
        self._columns, self._cells = columns, columns * rows
        self._kept: list[tuple[int, np.ndarray, frozenset[str]]] = []
        self._every = 1
        self._seen = 0

    def add(self, frames: Frames, buttons: frozenset[str]) -> None:
        """Frames (n, height, width, 3) that were made while `buttons` were held."""
        for pixels in frames:
            if self._seen % self._every == 0:
                self._kept.append((self._seen, pixels.copy(), buttons))
            self._seen += 1
        # Far more than the cells is kept, so that what is thinned out is not missed.
        while len(self._kept) > 16 * self._cells:
            self._kept = self._kept[::2]
            self._every *= 2

    def write(self, path: Path) -> None:
        """The sheet as PNG, all or nothing. UserError if nothing was added."""
        try:
            from PIL import Image, ImageDraw, ImageFont
        except ModuleNotFoundError:
            raise MissingExtra("pillow", "play") from None
        if not self._kept:
            raise UserError("no frame was played: nothing to show on a contact sheet")
        picked = [self._kept[i] for i in _spread(len(self._kept), self._cells)]
        half = max(1, default_scale(self._card.width) // 2)
        width, height, gap, caption = self._card.width * half, self._card.height * half, 10, 46
        columns = min(self._columns, len(picked))
        rows = -(-len(picked) // columns)
        size = (gap + columns * (width + gap), gap + rows * (height + caption + gap))
        sheet = Image.new("RGB", size, PAPER)
        draw = ImageDraw.Draw(sheet)
        small, large = ImageFont.load_default(15), ImageFont.load_default(18)
        for cell, (index, pixels, buttons) in enumerate(picked):
            x = gap + cell % columns * (width + gap)
            y = gap + cell // columns * (height + caption + gap)
            sheet.paste(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS), (x, y))
            held = " + ".join(button.replace("_", " ") for button in self._card.buttons if button in buttons)
            draw.text(
                (x, y + height + 4), held or "nothing held", font=large, fill=(235, 235, 235) if held else (130,) * 3
            )
            draw.text((x, y + height + 26), f"{(index + 1) / self._card.fps:.1f} s", font=small, fill=(150, 156, 166))
        scratch = _scratch(path)
        try:
            sheet.save(scratch, format="PNG")
            scratch.replace(path)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise UserError(f"cannot write {path}: {error.strerror}") from None


def _spread(count: int, cells: int) -> list[int]:
    """Up to `cells` indices below `count`, first and last included."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(cells, count))})


def _scratch(path: Path) -> Path:
    return path.with_name(path.name + ".part")
