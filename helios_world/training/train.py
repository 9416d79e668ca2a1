"""`helios-world train`: autoencoder, then transformer, from a collected data set to a run folder.

A run folder holds config.json, vae.safetensors, transformer.safetensors (averaged weights) and a .jsonl log of each;
after stage 3 also teacher.safetensors and critic.safetensors, after `decoder` discriminator.safetensors, after
`outcome` outcome.safetensors, with outcome.json for its config, after `probe` likewise.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helios_world.config import PRESETS, AutoencoderConfig, OutcomeConfig, SamplerConfig, TransformerConfig
from helios_world.errors import UserError, check_name
from helios_world.pack import TRANSFORMER
from helios_world.training.facts import read_facts, scene_dim
from helios_world.training.recipe import STAGES

if TYPE_CHECKING:
    from helios_world.training.ranks import Rank

CHOICES = ("all", "autoencoder", "decoder", *STAGES, "probe")
PIXEL_STAGES = ("all", "autoencoder", "decoder", "probe")  # those that learn from frames: all are on the device
RECALLED = 5  # latents that outcomes recall beside those they look at: who backs into something saw it seconds ago
BESIDE = ("decoder", "outcome", "probe")  # stages whose config stands beside that of the world, in a file of its own


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Trains a world on a data set: first the autoencoder, then the transformer. Run the same command again to go "
        "on from the weights in the run folder. Example: helios-world train --data data/maze --run runs/maze. "
        "With several GPUs: torchrun --nproc-per-node 2 -m -- helios_world train ...; batches are per GPU."
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folders made by helios-world collect, one for each scene"
    )
    parser.add_argument(
        "--shares", type=float, nargs="+", help="of each scene in the transformer's batches (default: as its frames)"
    )
    parser.add_argument("--run", type=Path, required=True, help="run folder: weights, config and logs")
    parser.add_argument("--stage", default="all", choices=CHOICES, help="(default: all: autoencoder, then base)")
    parser.add_argument("--preset", default="doom", help=f"network sizes: {', '.join(PRESETS)} (default: doom)")
    parser.add_argument("--init", help="world pack (name or folder) to start from where the run folder is empty")
    parser.add_argument("--device", default=None, help="cuda or cpu (default: cuda where there is one)")
    parser.add_argument("--compile", action="store_true", help="torch.compile the losses: slow start, faster after it")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (default: 0)")
    parser.add_argument("--autoencoder-minutes", type=float, default=3.5, help="(default: 3.5)")
    parser.add_argument("--autoencoder-iterations", type=int, default=1_000_000, help="upper bound beside the minutes")
    parser.add_argument("--autoencoder-batch", type=int, default=128, help="chunks per iteration (default: 128)")
    parser.add_argument(
        "--made", type=int, default=0, help="decoder: chunks beside them that the run's transformer makes (0)"
    )
    parser.add_argument(
        "--keep-latents",
        action="store_true",
        help="autoencoder: those of --init keep their meaning, as for a new scene",
    )
    parser.add_argument(
        "--minutes", type=float, default=18.0, help="of the transformer, outcome or probe (default: 18)"
    )
    parser.add_argument("--iterations", type=int, default=1_000_000, help="upper bound beside the minutes")
    parser.add_argument("--batch", type=int, default=256, help="recorded contexts per iteration (default: 256)")
    parser.add_argument("--rollout-batch", type=int, help="contexts of the network's own (default: the stage's)")
    parser.add_argument("--rollout", type=float, help="chunks it plays on, on average (default: the stage's)")
    parser.add_argument("--draws", type=int, nargs="+", default=[1, 1], help="noise draws per level (default: 1 1)")
    parser.add_argument("--muon-rate", type=float, help="learning rate of Muon (default: the stage's)")
    parser.add_argument("--rate", type=float, help="learning rate of AdamW (default: the stage's)")
    parser.add_argument("--warmup", type=int, help="turns until the rates are full (default: the stage's)")
    parser.add_argument("--hold", type=float, help="share of the run at full rate (default: the stage's)")
    parser.add_argument("--ema", type=float, help="of the averaged weights (default: the stage's)")
    parser.add_argument("--teacher-steps", type=int, default=8, help="ode: of the teacher at each level (default: 8)")
    parser.add_argument("--critic-turns", type=int, default=5, help="distil: of the critic to one of the student (5)")
    parser.add_argument(
        "--adversary-from", type=float, default=0.2, help="distil, decoder: share before it; 1 leaves it out (0.2)"
    )
    parser.add_argument("--judge-draws", type=int, default=4, help="distil: noise draws of a chunk that is judged (4)")
    parser.add_argument("--regression", type=float, default=1.0, help="distil: weight of the error to the truth (1)")
    parser.add_argument("--near", type=int, default=0, help="distil: chunks of its own play under it as well (0)")
    parser.add_argument("--lora", type=int, default=0, help="rank of adapters that learn for the blocks (0: none)")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="compute blocks twice, keep them once")
    _add_ablations(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the config and stop")


def _add_ablations(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "ablations", "The recipe without one of its ideas. Give the same to every stage of a run."
    )
    group.add_argument("--no-anchor", dest="anchor", action="store_false", help="history without the anchor")
    group.add_argument("--no-corruption", dest="corruption", action="store_false", help="learn from clean histories")
    group.add_argument("--positions", default="relative", help="relative or absolute, of the anchor (relative)")
    group.add_argument(
        "--history-sizes",
        type=int,
        nargs=3,
        metavar=("LONG", "MID", "RECENT"),
        help="latent frames of memory (default: the preset's)",
    )


def run(args: argparse.Namespace) -> int:
    transformer, autoencoder = PRESETS[check_name("preset", args.preset, PRESETS)]
    scenes = [read_facts(folder)["scene"] for folder in args.data]
    transformer = _ablated(args, replace(transformer, scene_dim=scene_dim(scenes)))
    stage = args.stage if args.stage in STAGES else "base"
    for name, value in vars(STAGES[stage]).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    config = {
        "arguments": {k: _plain(v) for k, v in vars(args).items() if not callable(v)},
        "scenes": scenes,
        "transformer": transformer.to_dict(),
        "autoencoder": autoencoder.to_dict(),
        "sampler": SamplerConfig((1,) * len(args.draws)).to_dict(),
        "outcome": _outcome_config(transformer, autoencoder).to_dict(),
    }
    least = {"rollout": 1, "teacher_steps": 1, "critic_turns": 1, "judge_draws": 1, "warmup": 1, "lora": 0}
    for name, lowest in least.items():
        if getattr(args, name) < lowest:
            raise UserError(f"{name} is {getattr(args, name):g}: must be at least {lowest}")
    _check_shares(args.shares, scenes)
    _check_run(args, config)
    if args.dry_run:
        print(json.dumps(config, indent=1))
        return 0
    from helios_world.training.ranks import joined

    with joined(args.device) as rank:
        if rank.leads:
            print(json.dumps(config, indent=1))
            args.run.mkdir(parents=True, exist_ok=True)
            name = f"{args.stage}.json" if args.stage in BESIDE else "config.json"
            (args.run / name).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        train(args, stage, transformer, autoencoder, rank)
    return 0


def _check_shares(shares: Sequence[float] | None, scenes: Sequence[str]) -> None:
    if shares is None:
        return
    if len(shares) != len(scenes):
        raise UserError(f"{len(shares)} shares for {len(scenes)} data sets: give one for each")
    if not all(0 < share < math.inf for share in shares):
        raise UserError(f"shares are {', '.join(f'{share:g}' for share in shares)}: must be positive")


def _check_run(args: argparse.Namespace, config: dict[str, Any]) -> None:
    """Stages of a run make one network: as it began to learn, it goes on."""
    path = args.run / "config.json"
    if args.stage in BESIDE or not (path.is_file() and (args.run / TRANSFORMER).is_file()):
        return
    before, now = (_ideas(said) for said in (json.loads(path.read_text(encoding="utf-8")), config))
    for name, value in now.items():
        if before[name] != value:
            raise UserError(
                f"{path} has {name} {json.dumps(before[name])}, not {json.dumps(value)}: give the same options to every"
                " stage of a run, or another --run"
            )


def _ideas(config: dict[str, Any]) -> dict[str, Any]:
    """What all stages of a run have in common, by name, as JSON has it."""
    transformer = TransformerConfig.from_dict(config["transformer"]).to_dict()
    levels, corruption = len(config["sampler"]["steps"]), config["arguments"].get("corruption", True)
    common = {"scenes": config["scenes"], **transformer, "levels": levels, "corruption": corruption}
    return json.loads(json.dumps(common))


def _ablated(args: argparse.Namespace, config: TransformerConfig) -> TransformerConfig:
    sizes = config.history_sizes if args.history_sizes is None else tuple(args.history_sizes)
    return replace(config, anchor=args.anchor, positions=args.positions, history_sizes=sizes)


def _outcome_config(transformer: TransformerConfig, autoencoder: AutoencoderConfig) -> OutcomeConfig:
    older = sum(transformer.history_sizes) - OutcomeConfig.frames  # all else that a world remembers
    return OutcomeConfig(
        recalled=max(0, min(RECALLED, older)),
        latent_channels=autoencoder.latent_channels,
        action_dim=transformer.action_dim,
        scene_dim=transformer.scene_dim,
    )


def _plain(value: Any) -> Any:
    """As JSON can hold it."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def train(args: argparse.Namespace, stage: str, transformer_config, autoencoder_config, rank: Rank) -> None:
    """Runs the stages asked for."""
    import torch

    from helios_world.training.data import encode_recording, load_recordings
    from helios_world.training.stages import (
        known_autoencoder,
        train_autoencoder,
        train_decoder,
        train_outcome,
        train_probe,
        train_transformer,
    )

    torch.set_float32_matmul_precision("high")
    torch.manual_seed(args.seed)
    began = time.monotonic()
    mapped = args.stage not in PIXEL_STAGES
    recording = load_recordings(
        args.data, rank.device, part=rank.index, parts=rank.count, mapped=mapped, shares=args.shares
    )
    place = "disk" if mapped else rank.device
    print(f"{len(recording.first)} frames on {place} after {time.monotonic() - began:.0f} s", flush=True)
    if args.stage == "probe":
        train_probe(args, recording, rank)
        return
    if args.stage in ("all", "autoencoder"):
        vae = train_autoencoder(args, autoencoder_config, recording, rank)
    else:
        vae = known_autoencoder(args, autoencoder_config, rank)
    if args.stage == "decoder":
        train_decoder(args, transformer_config, vae, recording, rank)
    if args.stage in ("autoencoder", "decoder"):
        return
    began = time.monotonic()
    latents = encode_recording(vae, recording)
    recording = recording.without_frames()
    print(f"frames encoded after {time.monotonic() - began:.0f} s", flush=True)
    if args.stage == "outcome":
        train_outcome(args, _outcome_config(transformer_config, autoencoder_config), latents, recording, rank)
    else:
        train_transformer(args, stage, transformer_config, latents, recording, rank)
