"""`helios-world export`: a finished run as a world pack: int8 weights, stored starts, card and provenance."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from helios_world.config import SamplerConfig
from helios_world.errors import UserError
from helios_world.pack import OUTCOME, PROBE, STARTS, TRANSFORMER, VAE
from helios_world.training.facts import read_facts

if TYPE_CHECKING:
    from torch import Tensor

    from helios_world.model.vae import VideoVAE
    from helios_world.training.data import Recording

LIMIT_MIB = 32
BEGUN = 3  # chunks of a game that a start from its beginning holds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Turns a run of helios-world train into a world pack that can be played. "
        "Example: helios-world export --run runs/maze --data data/maze --out my-world"
    )
    parser.add_argument("--run", type=Path, required=True, help="run folder made by helios-world train")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="data sets to take stored starts from, one for each scene"
    )
    parser.add_argument(
        "--average",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="take the mean with the transformers of these",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the pack; replaced if it is one already")
    parser.add_argument("--name", default="doom", help="name of the world (default: doom)")
    parser.add_argument("--starts", type=int, default=16, help="stored starts per scene (default: 16)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of starts (default: 0)")
    parser.add_argument(
        "--contrast", type=float, default=0.0, help="0 to 1: least contrast of the past, to the anchor's (default: 0)"
    )
    parser.add_argument("--licence", default="Apache-2.0; learnt from Freedoom (BSD-3-Clause)", help="of the weights")
    parser.add_argument("--note", help="JSON file with more provenance: minutes, machine, figures")
    parser.add_argument("--dry-run", action="store_true", help="check the inputs and stop")


def run(args: argparse.Namespace) -> int:
    others = [run / name for run in args.average for name in ("config.json", TRANSFORMER)]
    data = [folder / "data.json" for folder in args.data]
    for path in (args.run / "config.json", args.run / TRANSFORMER, args.run / VAE, *data, *others):
        if not path.is_file():
            raise UserError(f"{path} is missing: export needs a finished run and a data set")
    if args.out.exists() and not (args.out / "world.json").is_file():
        raise UserError(f"{args.out} exists and is not a world pack: choose another --out")
    if args.starts < 1:
        raise UserError(f"starts is {args.starts}: at least one is needed")
    SamplerConfig(contrast=args.contrast)  # says so if it cannot be
    if not args.dry_run:
        export(args)
    return 0


def export(args: argparse.Namespace) -> None:
    """Writes the whole pack beside its place, then moves it there."""
    from helios_world.card import WorldCard
    from helios_world.checkpoint import load_into, load_weights, save_weights
    from helios_world.config import AutoencoderConfig, OutcomeConfig, ProbeConfig, TransformerConfig
    from helios_world.model.vae import VideoVAE
    from helios_world.pack import Networks, Pack
    from helios_world.training.game import BINDINGS, BUTTONS, FPS, HEIGHT, MOUSE, WIDTH

    config, *others = (
        json.loads((run / "config.json").read_text(encoding="utf-8")) for run in (args.run, *args.average)
    )
    transformer = TransformerConfig.from_dict(config["transformer"])
    autoencoder = AutoencoderConfig.from_dict(config["autoencoder"])
    vae = VideoVAE(autoencoder)
    load_into(vae, args.run / VAE)
    starts, facts = stored_starts(args, vae.eval(), config["scenes"], sum(transformer.history_sizes))
    scenes = tuple(config["scenes"])
    beside = known_beside(args.run, scenes)
    sizes, has_outcomes = (HEIGHT, WIDTH, FPS, autoencoder.frames), OUTCOME in beside
    card = WorldCard(args.name, *sizes, BUTTONS, scenes, BINDINGS, mouse=MOUSE, outcomes=has_outcomes)
    note = json.loads(Path(args.note).read_text(encoding="utf-8")) if args.note else {}
    provenance = {"data": facts, "training": config["arguments"]}
    provenance |= {Path(name).stem: said["arguments"] for name, said in beside.items()} | note
    if others:
        provenance["averaged_with"] = [other["arguments"] for other in others]
    outcome = OutcomeConfig.from_dict(beside[OUTCOME]["outcome"]) if has_outcomes else None
    probe = ProbeConfig.from_dict(beside[PROBE]["probe"]) if PROBE in beside else None
    sampler = SamplerConfig.from_dict({**config["sampler"], "contrast": args.contrast})
    networks = Networks(transformer, autoencoder, sampler, outcome, probe)
    pack = Pack(args.out, card, networks, None, args.licence, provenance)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=args.out.parent))
    save_weights(
        scratch / TRANSFORMER, mean_weights([run / TRANSFORMER for run in (args.run, *args.average)]), int8=True
    )
    save_weights(scratch / VAE, vae.state_dict(), int8=True)
    save_weights(scratch / STARTS, starts, int8=True)
    for name in beside:
        save_weights(scratch / name, load_weights(args.run / name), int8=True)
    (scratch / "world.json").write_text(json.dumps(pack.to_dict(), indent=1) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in scratch.iterdir()) / 2**20
    print(f"{args.out}: {size:.1f} MiB, {args.starts} starts of {', '.join(scenes)}")
    if size > LIMIT_MIB:
        shutil.rmtree(scratch)
        raise UserError(f"the pack would be {size:.1f} MiB: at most {LIMIT_MIB} MiB ship with the package")
    shutil.rmtree(args.out, ignore_errors=True)
    scratch.chmod(0o755)
    scratch.rename(args.out)


def known_beside(run: Path, scenes: Sequence[str]) -> dict[str, dict]:
    """Networks that the run has beside the world's own, by file, each with what its stage noted.

    UserError if one knows other scenes than the world.
    """
    known = {}
    for name in (OUTCOME, PROBE):
        path = run / name
        if path.is_file():
            known[name] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            if tuple(known[name]["scenes"]) != tuple(scenes):
                theirs = ", ".join(known[name]["scenes"])
                raise UserError(f"{path} knows the scenes {theirs}: the world has {', '.join(scenes)}")
    return known


def mean_weights(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of networks that began from the same weights: it keeps what each of them learnt (arXiv 2203.05482).

    UserError if their tensors differ in name or shape.
    """
    from helios_world.checkpoint import load_weights

    first, *others = (load_weights(path) for path in paths)
    for path, weights in zip(paths[1:], others, strict=True):
        if {name: value.shape for name, value in weights.items()} != {n: value.shape for n, value in first.items()}:
            raise UserError(f"{path} holds another network than {paths[0]}: they cannot be averaged")
    return {name: sum((w[name] for w in others), value) / len(paths) for name, value in first.items()}


def stored_starts(
    args: argparse.Namespace, vae: VideoVAE, scenes: Sequence[str], history: int
) -> tuple[dict[str, Tensor], list[dict]]:
    """Latents to start from by scene, and what the data sets that they come from say of themselves.

    UserError if there is not one data set for each of the scenes.
    """
    import torch

    from helios_world.training.data import load_recordings
    from helios_world.training.game import SCENARIOS

    found = {read_facts(folder)["scene"]: folder for folder in args.data}
    if set(found) != set(scenes):
        raise UserError(f"data sets of {', '.join(found)}: the run needs one of each of {', '.join(scenes)}")
    starts, facts = {}, []
    for scene in scenes:
        recording = load_recordings([found[scene]], torch.device("cpu"))
        facts.append(recording.facts[0])
        choose = beginnings if SCENARIOS[scene].from_beginning else viewpoints
        ends = choose(recording, vae.config.frames, history, args.starts, args.seed)
        starts[scene] = encode_starts(vae, recording, ends, history)
    return starts, facts


def viewpoints(recording: Recording, chunk: int, history: int, count: int, seed: int) -> list[int]:
    """Frames at which starts end: with much to see, as far apart in the map as can be."""
    import numpy as np
    import torch

    ends = recording.chunk_ends(chunk, chunks_before=history)
    generator = torch.Generator().manual_seed(seed)
    some = ends[torch.randperm(len(ends), generator=generator)[:4096]]
    detail = torch.cat([recording.frames[few].float().diff(dim=2).abs().mean(dim=(1, 2, 3)) for few in some.split(256)])
    some = some[detail.argsort(descending=True)[: max(count, len(some) // 5)]].numpy()
    places = recording.poses[some][:, :2]
    chosen = [0]
    while len(chosen) < count:
        nearest = np.linalg.norm(places[:, None] - places[chosen][None], axis=-1).min(axis=1)
        chosen.append(int(nearest.argmax()))
    return some[chosen].tolist()


def beginnings(recording: Recording, chunk: int, history: int, count: int, seed: int) -> list[int]:
    """Frames at which starts end: BEGUN chunks into games, which are drawn at random."""
    import torch

    index = torch.arange(len(recording.first))
    ends = index[index - recording.first == chunk * min(BEGUN, history) - 1]
    order = torch.randperm(len(ends), generator=torch.Generator().manual_seed(seed))
    return ends[order[torch.arange(count) % len(ends)]].tolist()


def encode_starts(vae: VideoVAE, recording: Recording, ends: Sequence[int], history: int) -> Tensor:
    """Latents (starts, C, history, h, w) of what was seen up to `ends`, zeros before the beginning of a game."""
    import torch
    import torch.nn.functional as F

    chunk, windows = vae.config.frames, []
    with torch.inference_mode():
        for end in ends:
            known = min(history, (end + 1 - int(recording.first[end])) // chunk)
            latents = vae.encode(recording.frames[end + 1 - chunk * known : end + 1][None])[0]
            windows.append(F.pad(latents, (0, 0, 0, 0, history - known, 0)))
    return torch.stack(windows)
