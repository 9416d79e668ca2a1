"""World packs: a folder with world.json and weights. Reading the card needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helios_world.card import WorldCard
from helios_world.config import AutoencoderConfig, SamplerConfig, TransformerConfig
from helios_world.errors import PackError, UserError

FORMAT = "helios-world-pack-1"
SHIPPED = Path(__file__).resolve().parent / "worlds"
TRANSFORMER, VAE, STARTS = "transformer.safetensors", "vae.safetensors", "starts.safetensors"


@dataclass(frozen=True)
class Pack:
    """What world.json says.

    Attributes:
        folder: where it lies.
        card: the world seen from outside.
        transformer, autoencoder, sampler: sizes of the networks and of the sampler.
        licence: of the weights.
        provenance: data, seed, commit, commands and figures of the training run.
    """

    folder: Path
    card: WorldCard
    transformer: TransformerConfig
    autoencoder: AutoencoderConfig
    sampler: SamplerConfig
    licence: str
    provenance: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As world.json holds it."""
        return {
            "format": FORMAT,
            "card": self.card.to_dict(),
            "transformer": self.transformer.to_dict(),
            "autoencoder": self.autoencoder.to_dict(),
            "sampler": self.sampler.to_dict(),
            "licence": self.licence,
            "provenance": dict(self.provenance),
        }


def list_packs() -> list[str]:
    """Names of the packs that ship with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/world.json"))


def find_pack(world: str) -> Path:
    """Folder of a shipped pack, or of a pack at a path. UserError if there is none."""
    if world in list_packs():
        return SHIPPED / world
    folder = Path(world).expanduser()
    if (folder / "world.json").is_file():
        return folder
    raise UserError(f"unknown world {world!r}: choose from {', '.join(list_packs())} or give the folder of a pack")


def read_pack(world: str) -> Pack:
    """The pack by name or path. PackError if its world.json cannot be used."""
    folder = find_pack(world)
    path = folder / "world.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise PackError(f"{path} has format {values['format']!r}: this version reads {FORMAT!r}")
        return Pack(
            folder,
            WorldCard.from_dict(values["card"]),
            TransformerConfig.from_dict(values["transformer"]),
            AutoencoderConfig.from_dict(values["autoencoder"]),
            SamplerConfig.from_dict(values["sampler"]),
            values["licence"],
            values["provenance"],
        )
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PackError(f"{path} is damaged ({type(error).__name__}: {error})") from None


def read_card(world: str) -> WorldCard:
    """The card of a pack by name or path."""
    return read_pack(world).card
