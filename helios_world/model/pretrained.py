"""Networks of other libraries (diffusers, transformers) from a folder: strictly, quietly, without network or pickle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from helios_world.errors import MissingExtra, PackError

EXTRA = "helios"


@contextmanager
def optional_import(module: str) -> Iterator[None]:
    """Imports within it raise MissingExtra where a module is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or module, EXTRA) from None


def load_pretrained(
    kind: type, folder: Path, logging: ModuleType, *, may_lack: Iterable[str] = (), **options: Any
) -> tuple[nn.Module, set[str]]:
    """`kind.from_pretrained(folder)`, ready for inference, and the names of tensors in `may_lack` that it lacks.

    Args:
        logging: the library's own settings for messages and progress bars; quiet meanwhile.
    Raises:
        PackError: no such folder, a damaged file, or a tensor that is missing, extra or mis-shaped.
    """
    if not (folder / "config.json").is_file():
        raise PackError(f"{folder} is not the folder of a {kind.__name__}: it has no config.json")
    try:
        with _quiet(logging):
            model, report = kind.from_pretrained(
                str(folder),
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that they are reported, for the message below
                **options,
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise PackError(f"{folder} is damaged or no {kind.__name__} ({_one_line(error)})") from None
    missing, extra = set(report["missing_keys"]), set(report["unexpected_keys"])
    for name in sorted(missing - set(may_lack)):
        raise PackError(f"{folder} lacks tensor {name}")
    for name, found, wanted in sorted(report["mismatched_keys"]):
        raise PackError(f"{folder}: tensor {name} is {tuple(found)}: must be {tuple(wanted)}")
    for name in sorted(extra):
        raise PackError(f"{folder} holds tensor {name}, which a {kind.__name__} does not have")
    return model.eval().requires_grad_(False), missing


@contextmanager
def _quiet(logging: ModuleType) -> Iterator[None]:
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
