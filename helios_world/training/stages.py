"""The training stages: what is trained, on which batches, by which loss."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from helios_world.checkpoint import load_into, save_weights
from helios_world.config import AutoencoderConfig, TransformerConfig
from helios_world.errors import UserError
from helios_world.model.dit import VideoDiT, initialise
from helios_world.model.vae import VideoVAE
from helios_world.pack import TRANSFORMER, VAE, find_pack
from helios_world.sampling.schedule import pyramid_levels
from helios_world.training.data import Recording, WindowSource
from helios_world.training.loop import Schedule, training_loop
from helios_world.training.losses import autoencoder_loss, pyramid_flow_loss, rollout_loss
from helios_world.training.ranks import Rank
from helios_world.training.rollouts import RolloutPool

ROLLOUT_RAMP = 0.4  # share of the run until rollouts have their full length


def train_autoencoder(
    args: argparse.Namespace, config: AutoencoderConfig, recording: Recording, rank: Rank, *, skip: bool
) -> VideoVAE:
    """The autoencoder, trained, or with `skip` as it was left, with latents normalised per channel."""
    vae, path = VideoVAE(config), args.run / VAE
    known = _start_from(vae, path, args.init)
    vae = vae.to(rank.device, memory_format=torch.channels_last)
    if skip:
        if not known:
            raise UserError(f"{path} is missing: train the autoencoder first")
        return vae.eval()
    schedule = Schedule(
        args.autoencoder_iterations, args.autoencoder_minutes, learning_rate=1e-3, warmup=100, hold=0.1, ema=0.999
    )
    ends = recording.chunk_ends(config.frames)
    if args.compile:
        vae.encoder.compile(dynamic=False)
        vae.decoder.compile(dynamic=False)

    def loss(generator: torch.Generator, progress: float):
        pick = torch.randint(len(ends), (args.autoencoder_batch,), device=rank.device, generator=generator)
        return autoencoder_loss(vae, recording.chunks(ends[pick], config.frames), generator)

    with torch.no_grad():  # weights are trained on raw latents; the statistics come after
        vae.latent_mean.zero_()
        vae.latent_std.fill_(1.0)
    training_loop(vae, loss, schedule, path=path, seed=args.seed, rank=rank)
    normalise(vae, recording, ends, args.seed, rank)
    if rank.leads:
        save_weights(path, vae.state_dict())
    return vae


@torch.no_grad()
def normalise(vae: VideoVAE, recording: Recording, ends: torch.Tensor, seed: int, rank: Rank) -> None:
    """Sets the latents' mean and deviation per channel, from at most 4096 chunks on each rank."""
    generator = torch.Generator(ends.device).manual_seed(seed + 1)
    pick = torch.randperm(len(ends), device=ends.device, generator=generator)[:4096]
    with torch.autocast(ends.device.type, torch.bfloat16):
        parts = [vae.encode(recording.chunks(some, vae.config.frames)).float() for some in ends[pick].split(128)]
    latents = torch.cat(parts)
    vae.latent_mean.copy_(latents.mean(dim=(0, 2, 3, 4)))
    vae.latent_std.copy_(latents.std(dim=(0, 2, 3, 4)))
    rank.average([vae.latent_mean, vae.latent_std])


def train_transformer(
    args: argparse.Namespace, config: TransformerConfig, latents: torch.Tensor, recording: Recording, rank: Rank
) -> VideoDiT:
    """The base stage: the whole Helios recipe but distillation, on encoded frames, and on the network's own play."""
    model, path = VideoDiT(config), args.run / TRANSFORMER
    if not _start_from(model, path, args.init):
        initialise(model, torch.Generator().manual_seed(args.seed))
    model = model.to(rank.device)
    if args.compile:
        model.compile(dynamic=False)
        model.encode_history = torch.compile(model.encode_history, dynamic=False)
    chunk = config.action_dim // recording.actions.shape[1]
    source = WindowSource(latents, recording, sum(config.history_sizes), chunk)
    ends = recording.chunk_ends(chunk, chunks_before=1)
    levels = pyramid_levels(len(args.draws))
    schedule = Schedule(
        args.iterations,
        args.minutes,
        learning_rate=args.rate,
        muon_learning_rate=args.muon_rate,
        hold=args.hold,
        ema=args.ema,
    )
    draw = torch.Generator(rank.device).manual_seed((args.seed + 3) * rank.count + rank.index)
    pool = RolloutPool(source, ends, args.rollout_batch, draw) if args.rollout_batch else None

    def loss(generator: torch.Generator, progress: float):
        pick = torch.randint(len(ends), (args.batch,), device=rank.device, generator=generator)
        taught, figures = pyramid_flow_loss(model, source.draw(ends[pick], generator), levels, args.draws, generator)
        if pool is None:
            return taught, figures
        played, errors, chunks = rollout_loss(model, pool.window, levels, generator)
        pool.advance(chunks, 1 + (args.rollout - 1) * min(1.0, progress / ROLLOUT_RAMP), generator)
        return (taught + played) / 2, figures | errors

    training_loop(model, loss, schedule, path=path, seed=args.seed + 2, rank=rank)
    return model


def _start_from(network: torch.nn.Module, path: Path, init: str | None) -> bool:
    """Loads the run's own weights, or the pack's to start from. False if there are none."""
    if path.is_file():
        load_into(network, path)
    elif init is not None:
        load_into(network, find_pack(init) / path.name)
    else:
        return False
    print(f"starting from {path if path.is_file() else init}", flush=True)
    return True
