"""The UMT5 text encoder: one prompt to rows of cross-attention input. Remembers nothing; `embeddings.py` does.

Shapes: L tokens of the prompt, at most 512; D width of the encoder (4096 for UMT5-XXL).
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from helios_world.errors import PackError, check_name
from helios_world.model.pretrained import load_pretrained, optional_import

MAX_TOKENS = 512
Idle = Literal["keep", "cpu", "disk"]
SHARED, EMBEDDED = "shared.weight", "encoder.embed_tokens.weight"
SAMPLES, SAMPLE_BYTES = 64, 4096  # of each weight file, for `identity`


class Encoded(NamedTuple):
    """A prompt as the transformer reads it."""

    rows: Tensor  # (L, D): one per token, without the zeros that fill up to MAX_TOKENS
    cut: str  # end of the prompt that did not fit; "" mostly


def clean_prompt(text: str) -> str:
    """The prompt as the released pipelines clean it: broken Unicode mended, HTML unescaped twice, single spaces."""
    with optional_import("ftfy"):
        import ftfy
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def fill_up(rows_LD: Tensor, length: int = MAX_TOKENS) -> Tensor:
    """(length, D), zeros past the prompt. The transformer attends to all rows, without a mask."""
    return torch.nn.functional.pad(rows_LD, (0, 0, 0, length - len(rows_LD)))


class TextEncoder:
    """The `text_encoder` and `tokenizer` folders of a checkpoint in the diffusers layout. Loaded when first needed."""

    def __init__(
        self, checkpoint: Path, *, dtype: torch.dtype = torch.bfloat16, device: str = "cpu", idle: Idle = "keep"
    ):
        """Args:
            checkpoint: folder that holds both.
            idle: where the weights wait between two prompts: "keep" leaves them on `device`, "cpu" moves them to the
                host's memory, "disk" frees them and loads them again for the next prompt.
        Raises:
            PackError: a folder or its config.json is missing or of another kind.
        """
        check_name("idle", idle, get_args(Idle))
        self.folder, self.tokenizer_folder = checkpoint / "text_encoder", checkpoint / "tokenizer"
        self.dtype, self.device, self.idle = dtype, torch.device(device), idle
        self.width = _read_width(self.folder)
        if not self.tokenizer_folder.is_dir():
            raise PackError(f"{checkpoint} is no whole checkpoint: it has no folder {self.tokenizer_folder.name}")
        self._network: nn.Module | None = None
        self._tokenizer: Any = None
        self._identity = ""

    @property
    def loaded_on(self) -> torch.device | None:
        """Where the weights are now; None while they are on disk only."""
        return None if self._network is None else next(self._network.parameters()).device

    @property
    def identity(self) -> str:
        """Hash of what decides the rows of a prompt: config, tokenizer, samples of the weights, number format.

        Weight files are sampled, not read whole: 64 places of each, and its size. No weights are loaded for it.
        """
        if not self._identity:
            digest = hashlib.sha256(f"{self.dtype} {MAX_TOKENS}".encode())
            for folder in (self.folder, self.tokenizer_folder):
                for path in sorted(path for path in folder.iterdir() if path.is_file()):
                    digest.update(path.name.encode() + b"\0")
                    _sample(path, digest)
            self._identity = digest.hexdigest()
        return self._identity

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Rows of each text, on `device`. Each is cleaned, and cut where it has over 512 tokens with the end mark.

        Prompts are encoded one by one without padding, which gives the rows that padding and a mask would give.
        """
        tokenised = [self._tokenise(clean_prompt(text)) for text in texts]
        if self._network is None:
            self._network = _load(self.folder, self.dtype)
        network = self._network.to(self.device)
        encoded = []
        for tokens, cut in tokenised:
            rows = network(torch.tensor([tokens], device=self.device)).last_hidden_state[0]
            encoded.append(Encoded(rows.to(self.dtype), cut))
        self._rest()
        return encoded

    def _rest(self) -> None:
        if self.idle == "cpu":
            self._network.to("cpu")
        elif self.idle == "disk":
            self._network = None
        if self.idle != "keep" and self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _tokenise(self, text: str) -> tuple[list[int], str]:
        """Tokens, the end mark last, and the text of those that did not fit."""
        if self._tokenizer is None:
            with optional_import("transformers"):
                from transformers import AutoTokenizer
            try:
                self._tokenizer = AutoTokenizer.from_pretrained(str(self.tokenizer_folder), local_files_only=True)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise PackError(f"{self.tokenizer_folder} is damaged ({' '.join(str(error).split())[:200]})") from None
        tokens = self._tokenizer(text, verbose=False).input_ids
        if len(tokens) <= MAX_TOKENS:
            return tokens, ""
        kept, lost = tokens[: MAX_TOKENS - 1], tokens[MAX_TOKENS - 1 : -1]
        return [*kept, tokens[-1]], self._tokenizer.decode(lost)


def tie_embedding(network: nn.Module, missing: set[str]) -> None:
    """Makes `encoder.embed_tokens` and `shared` one table: the one that is not among the `missing` tensors.

    Checkpoints hold it once, as `shared`, and some versions of transformers then leave the encoder's at zero.
    """
    network.set_input_embeddings(network.encoder.embed_tokens if SHARED in missing else network.shared)


def _load(folder: Path, dtype: torch.dtype) -> nn.Module:
    with optional_import("transformers"):
        from transformers import UMT5EncoderModel
        from transformers.utils import logging
    network, missing = load_pretrained(UMT5EncoderModel, folder, logging, may_lack=(SHARED, EMBEDDED), dtype=dtype)
    if {SHARED, EMBEDDED} <= missing:
        raise PackError(f"{folder} lacks tensor {SHARED}")
    tie_embedding(network, missing)
    return network


def _read_width(folder: Path) -> int:
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["model_type"] != "umt5":
            raise PackError(f"{path} is of model_type {values['model_type']!r}: must be 'umt5'")
        return int(values["d_model"])
    except FileNotFoundError:
        raise PackError(f"{folder} is not the folder of a text encoder: it has no config.json") from None
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, PackError):
            raise
        raise PackError(f"{path} is damaged ({type(error).__name__}: {error})") from None


def _sample(path: Path, digest: Any) -> None:
    """Adds the size and evenly spaced samples of a file; all of it, if it is small."""
    size = path.stat().st_size
    digest.update(f"{size} ".encode())
    whole = size <= SAMPLES * SAMPLE_BYTES
    with path.open("rb") as file:
        for i in range(1 if whole else SAMPLES):
            file.seek(i * (size - SAMPLE_BYTES) // (SAMPLES - 1) if not whole else 0)
            digest.update(file.read() if whole else file.read(SAMPLE_BYTES))
