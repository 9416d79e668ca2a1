"""Text embeddings remembered by their prompt: the newest in memory, more on disk, so that the encoder mostly rests."""

from __future__ import annotations

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from helios_world.errors import UserError
from helios_world.home import home_folder
from helios_world.model.text import MAX_TOKENS, Encoded, TextEncoder, fill_up
from helios_world.prompts import Blend, blend
from helios_world.snapshot import write_bytes

SUFFIX = ".safetensors"


def cache_folder() -> Path:
    """Where embeddings are kept unless told otherwise."""
    return home_folder() / "cache" / "prompts"


class PromptEmbeddings:
    """What `encoder` makes of prompts. A prompt that is known, here or on disk, needs no weights in memory."""

    def __init__(self, encoder: TextEncoder, folder: Path | None = None, *, in_memory: int = 64, on_disk: int = 1000):
        """Args:
        folder: of the files; None for the one in the player's home folder.
        in_memory: prompts kept on the encoder's device; the one used longest ago goes first.
        on_disk: files kept, by all models together; the oldest goes first; 0 keeps none.
        """
        if in_memory < 1 or on_disk < 0:
            raise UserError(f"in_memory is {in_memory}, on_disk {on_disk}: must be at least 1 and at least 0")
        self.encoder = encoder
        self.folder = folder or cache_folder()
        self._in_memory, self._on_disk = in_memory, on_disk
        self._known: OrderedDict[str, Tensor] = OrderedDict()

    def fetch(self, texts: Sequence[str]) -> list[Tensor]:
        """Embedding (512, D) of each text; the encoder is woken at most once. Warns in one line of what was cut off."""
        return [fill_up(rows) for rows in self._rows(texts)]

    def warm(self, texts: Iterable[str]) -> None:
        """Makes and remembers the embeddings of texts that may come up, so that none has to be waited for then."""
        self._rows(list(texts))

    def blend(self, weighted: Blend) -> Tensor:
        """The embedding (512, D) of weighted texts, as `PromptTrack.blend` and `PromptSteering.steer` give them."""
        embeddings = self.fetch([text for text, _ in weighted])
        return blend([(row, weight) for row, (_, weight) in zip(embeddings, weighted, strict=True)])

    def _rows(self, texts: Sequence[str]) -> list[Tensor]:
        found = {text: self._known[text] for text in texts if text in self._known}
        unknown = [text for text in dict.fromkeys(texts) if text not in found]
        stored = {text: self._read(text) for text in unknown}
        missing = [text for text in unknown if stored[text] is None]
        made = dict(zip(missing, self.encoder.encode(missing) if missing else [], strict=True))
        for text, encoded in made.items():
            self._write(text, encoded)
        for text in unknown:
            encoded = stored[text] or made[text]
            if encoded.cut:
                warnings.warn(_complaint(encoded.cut), stacklevel=3)
            found[text] = encoded.rows
        for text, rows in found.items():
            self._known[text] = rows
            self._known.move_to_end(text)
        while len(self._known) > self._in_memory:
            self._known.popitem(last=False)
        return [found[text] for text in texts]

    def _path(self, text: str) -> Path:
        key = f"{self.encoder.identity}\0{text}".encode(errors="surrogatepass")
        return self.folder / (hashlib.sha256(key).hexdigest() + SUFFIX)

    def _read(self, text: str) -> Encoded | None:
        """What the disk has; a damaged file counts as none and is written again."""
        if not self._on_disk:
            return None
        try:
            with safe_open(self._path(text), framework="pt") as file:
                rows, cut = file.get_tensor("rows"), file.metadata()["cut"]
        except (OSError, SafetensorError, KeyError, TypeError):
            return None
        if rows.ndim != 2 or len(rows) > MAX_TOKENS or rows.shape[1] != self.encoder.width:
            return None
        return Encoded(rows.to(self.encoder.device, self.encoder.dtype), cut)

    def _write(self, text: str, encoded: Encoded) -> None:
        if not self._on_disk:
            return
        rows = encoded.rows.detach().to("cpu").contiguous()
        try:
            write_bytes(self._path(text), save({"rows": rows}, metadata={"cut": encoded.cut}))
            files = sorted(self.folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
            for path in files[: -self._on_disk]:
                path.unlink(missing_ok=True)
        except OSError as error:
            self._on_disk = 0
            warnings.warn(f"prompt embeddings are not kept on disk: {error}", stacklevel=4)


def _complaint(cut: str) -> str:
    shown = cut if len(cut) <= 200 else f"{cut[:200].rstrip()}... ({len(cut)} characters)"
    return f"the prompt has more than {MAX_TOKENS} tokens: cut off was {shown!r}"
