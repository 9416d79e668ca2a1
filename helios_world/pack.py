"""World packs: a folder with world.json and, mostly, weights. Reading the card needs no torch.

There are two kinds. A pack with `networks` holds weights of its own. One with `words` is played with a checkpoint from
elsewhere, and says what such a world is told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helios_world.card import WorldCard
from helios_world.config import AutoencoderConfig, Config, OutcomeConfig, ProbeConfig, SamplerConfig, TransformerConfig
from helios_world.engine_options import EngineOptions
from helios_world.errors import PackError, UserError

FORMAT = "helios-world-pack-1"
SHIPPED = Path(__file__).resolve().parent / "worlds"
TRANSFORMER, VAE, STARTS = "transformer.safetensors", "vae.safetensors", "starts.safetensors"
OUTCOME = "outcome.safetensors"  # where the world has rewards and ends
PROBE = "probe.safetensors"  # where the world brings its judge; only `eval` asks for it


@dataclass(frozen=True)
class Networks:
    """Sizes of the networks of a pack, and its sampler; without `outcome` its steps have no rewards and no ends."""

    transformer: TransformerConfig
    autoencoder: AutoencoderConfig
    sampler: SamplerConfig
    outcome: OutcomeConfig | None = None
    probe: ProbeConfig | None = None

    def __post_init__(self):
        remembered = sum(self.transformer.history_sizes)
        if self.outcome is not None and self.outcome.window > remembered:
            raise PackError(f"outcomes come from {self.outcome.window} latents: the world remembers {remembered}")


@dataclass(frozen=True)
class Words(Config):
    """What a world that takes prompts is told.

    Attributes:
        scenes: prompt by scene.
        negative: what guidance leads away from.
        steering: what the buttons say; see `steering.PromptSteering.from_dict`.
    """

    scenes: Mapping[str, str]
    negative: str
    steering: Mapping[str, Any]


@dataclass(frozen=True)
class Pack:
    """What world.json says.

    Attributes:
        folder: where it lies.
        card: the world seen from outside.
        networks: None where they come from a checkpoint.
        words: None where the world takes no prompt.
        licence: of the weights.
        provenance: data, seed, commit, commands and figures of the training run.
    """

    folder: Path
    card: WorldCard
    networks: Networks | None
    words: Words | None
    licence: str
    provenance: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As world.json holds it."""
        parts = {} if self.networks is None else vars(self.networks)
        parts = {name: part for name, part in {**parts, "words": self.words}.items() if part is not None}
        return {
            "format": FORMAT,
            "card": self.card.to_dict(),
            **{name: part.to_dict() for name, part in parts.items()},
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
            None if "words" in values else _read_networks(values),
            Words.from_dict(values["words"]) if "words" in values else None,
            values["licence"],
            values["provenance"],
        )
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PackError(f"{path} is damaged ({type(error).__name__}: {error})") from None


def read_card(world: str, options: EngineOptions = EngineOptions()) -> WorldCard:
    """The card of a pack by name or path, as `options` make it."""
    pack = read_pack(world)
    return options.fit(pack.card, checkpoint=pack.networks is None)


def _read_networks(values: Mapping[str, Any]) -> Networks:
    return Networks(
        TransformerConfig.from_dict(values["transformer"]),
        AutoencoderConfig.from_dict(values["autoencoder"]),
        SamplerConfig.from_dict(values["sampler"]),
        OutcomeConfig.from_dict(values["outcome"]) if "outcome" in values else None,
        ProbeConfig.from_dict(values["probe"]) if "probe" in values else None,
    )
