"""The training stages: what is trained, on which batches, by which loss."""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch._dynamo.config
import torch._inductor.config

from helios_world.checkpoint import load_into, save_weights
from helios_world.config import PROBE_SIZES, AutoencoderConfig, OutcomeConfig, ProbeConfig, TransformerConfig
from helios_world.device import mixed_precision
from helios_world.errors import UserError
from helios_world.model.dit import VideoDiT, initialise
from helios_world.model.outcome import EVENTS, OutcomeNetwork
from helios_world.model.probe import Probe
from helios_world.model.vae import VideoVAE
from helios_world.pack import OUTCOME, PROBE, TRANSFORMER, VAE
from helios_world.sampling.schedule import pyramid_levels
from helios_world.training.calibration import fit_line, score
from helios_world.training.cases import Cases
from helios_world.training.critic import Critic
from helios_world.training.data import Coded, Recording, Window, WindowSource, draw_ends, encode_recording
from helios_world.training.decoding import Encoded, Made
from helios_world.training.discriminator import Discriminator
from helios_world.training.loop import Length, Loss, Player, Schedule, training_loop
from helios_world.training.lora import add_adapters
from helios_world.training.losses import (
    autoencoder_loss,
    critic_loss,
    decoder_loss,
    discriminator_loss,
    distribution_matching_loss,
    judged_loss,
    ode_loss,
    outcome_loss,
    pyramid_flow_loss,
    regression_loss,
    rollout_loss,
    spoil_past,
    student_chunk,
)
from helios_world.training.probe_loss import ProbeSource, find_places, probe_loss
from helios_world.training.ranks import Rank
from helios_world.training.rollouts import RolloutPool
from helios_world.training.start import start_from

ROLLOUT_RAMP = 0.4  # share of the run until rollouts have their full length
TEACHER, CRITIC, DISCRIMINATOR = "teacher.safetensors", "critic.safetensors", "discriminator.safetensors"


def known_autoencoder(args: argparse.Namespace, config: AutoencoderConfig, rank: Rank) -> VideoVAE:
    """The autoencoder of the run so far, or of the pack to start from, as it is."""
    vae, path = VideoVAE(config), args.run / VAE
    if not start_from(vae, path, args.init):
        raise UserError(f"{path} is missing: train the autoencoder first")
    return vae.to(rank.device, memory_format=torch.channels_last).eval()


def train_autoencoder(
    args: argparse.Namespace, config: AutoencoderConfig, recording: Recording, rank: Rank
) -> VideoVAE:
    """The autoencoder, trained, with latents normalised per channel."""
    vae, path = VideoVAE(config), args.run / VAE
    started = start_from(vae, path, args.init)
    if args.keep_latents and not started:
        raise UserError("--keep-latents: there are none yet; give the world that has them with --init")
    vae = vae.to(rank.device, memory_format=torch.channels_last)
    known = copy.deepcopy(vae).requires_grad_(False) if args.keep_latents else None
    schedule = Schedule(learning_rate=1e-3, warmup=100, hold=0.1, ema=0.999)
    ends, rows = recording.chunk_ends(config.frames), args.autoencoder_batch
    length = Length(args.autoencoder_iterations, args.autoencoder_minutes)
    if args.compile:
        compile_autoencoder(vae)

    def loss(generator: torch.Generator, progress: float) -> Loss:
        frames = recording.draw_chunks(ends, rows, config.frames, generator)
        return autoencoder_loss(vae, frames, generator, known)

    with torch.no_grad():  # weights are trained on raw latents; the statistics come after
        vae.latent_mean.zero_()
        vae.latent_std.fill_(1.0)
    training_loop([Player(vae, loss, schedule, path)], length, seed=args.seed, rank=rank)
    normalise(vae, recording, ends, args.seed, rank)
    if rank.leads:
        save_weights(path, vae.state_dict())
    return vae


def train_decoder(
    args: argparse.Namespace, config: TransformerConfig, vae: VideoVAE, recording: Recording, rank: Rank
) -> None:
    """The decoder alone, against a discriminator, for detail that a mean error leaves out; the encoder stays."""
    made = _made_chunks(args, config, vae, recording, rank) if args.made else None
    vae.encoder.requires_grad_(False)
    encoded = Encoded(vae, recording)
    discriminator, kept = Discriminator(vae.config.frames), args.run / DISCRIMINATOR
    if kept.is_file():
        load_into(discriminator, kept)
    discriminator.to(rank.device, memory_format=torch.channels_last)
    schedule = Schedule(learning_rate=3e-4, warmup=100, hold=0.3, ema=0.998)
    if args.compile:
        compile_autoencoder(vae)

    def draw(generator: torch.Generator) -> Coded:
        known = encoded.draw(args.autoencoder_batch, generator)
        return known if made is None else known.join(made.draw(args.rollout, generator))

    def judge(generator: torch.Generator, progress: float) -> Loss:
        return discriminator_loss(vae, discriminator, draw(generator), generator)

    def loss(generator: torch.Generator, progress: float) -> Loss:
        return decoder_loss(vae, discriminator, draw(generator), adversary=progress >= args.adversary_from)

    players = [Player(discriminator, judge, schedule, kept), Player(vae, loss, schedule, args.run / VAE)]
    training_loop(players, Length(args.autoencoder_iterations, args.autoencoder_minutes), seed=args.seed, rank=rank)


def _made_chunks(
    args: argparse.Namespace, config: TransformerConfig, vae: VideoVAE, recording: Recording, rank: Rank
) -> Made:
    """What the run's transformer makes, which the decoder is to serve."""
    network, path = VideoDiT(config), args.run / TRANSFORMER
    if not start_from(network, path, args.init):
        raise UserError(f"{path} is missing: --made needs a transformer that makes chunks")
    source = WindowSource(encode_recording(vae, recording), recording, sum(config.history_sizes), vae.config.frames)
    draw = torch.Generator(rank.device).manual_seed((args.seed + 3) * rank.count + rank.index)
    pool = RolloutPool(source, recording.chunk_ends(vae.config.frames, chunks_before=1), args.made, draw)
    network.to(rank.device).eval().requires_grad_(False)
    return Made(vae, recording, network, pool, pyramid_levels(len(args.draws)))


@torch.no_grad()
def normalise(vae: VideoVAE, recording: Recording, ends: torch.Tensor, seed: int, rank: Rank) -> None:
    """Sets the latents' mean and deviation per channel, from at most 4096 chunks on each rank."""
    generator = torch.Generator(ends.device).manual_seed(seed + 1)
    pick = torch.randperm(len(ends), device=ends.device, generator=generator)[:4096]
    with mixed_precision(ends.device):
        parts = [vae.encode(recording.chunks(some, vae.config.frames)).float() for some in ends[pick].split(128)]
    latents = torch.cat(parts)
    vae.latent_mean.copy_(latents.mean(dim=(0, 2, 3, 4)))
    vae.latent_std.copy_(latents.std(dim=(0, 2, 3, 4)))
    rank.average([vae.latent_mean, vae.latent_std])


def train_transformer(
    args: argparse.Namespace,
    stage: str,
    config: TransformerConfig,
    latents: torch.Tensor,
    recording: Recording,
    rank: Rank,
) -> None:
    """One of the recipe's stages on encoded frames, from the weights of the run so far."""
    model, path = VideoDiT(config), args.run / TRANSFORMER
    if not start_from(model, path, args.init):
        if stage != "base":
            raise UserError(f"{path} is missing: train the base stage first, or start from a pack with --init")
        initialise(model, torch.Generator().manual_seed(args.seed))
    chunk = config.action_dim // recording.actions.shape[1]
    source = WindowSource(latents, recording, sum(config.history_sizes), chunk)
    batches = Batches(args, source, recording.chunk_ends(chunk, chunks_before=1), rank)
    make_players = {"base": _base_players, "ode": _ode_players, "distil": _distil_players}[stage]
    model.gradient_checkpointing = args.gradient_checkpointing
    players = make_players(args, model.to(rank.device), batches, path)
    training_loop(players, Length(args.iterations, args.minutes), seed=args.seed + 2, rank=rank)


def train_outcome(
    args: argparse.Namespace, config: OutcomeConfig, latents: torch.Tensor, recording: Recording, rank: Rank
) -> None:
    """What came of chunks, learnt from encoded frames, and calibrated on games held out of those."""
    network, path = OutcomeNetwork(config), args.run / OUTCOME
    start_from(network, path, None)
    network.to(rank.device)
    chunk = config.action_dim // recording.actions.shape[1]
    cases = Cases(WindowSource(latents, recording, config.window - 1, chunk))
    network.bias.copy_(torch.tensor(cases.log_odds()))  # near enough for weights that are saved on the way

    def loss(generator: torch.Generator, progress: float) -> Loss:
        return outcome_loss(network, cases.draw(args.batch, generator))

    player = Player(network, loss, _schedule(args), path)
    training_loop([player], Length(args.iterations, args.minutes), seed=args.seed + 4, rank=rank)
    calibrate(network, cases, recording.scenes, rank)
    if rank.leads:
        save_weights(path, network.state_dict())


@torch.no_grad()
def calibrate(network: OutcomeNetwork, cases: Cases, scenes: Sequence[str], rank: Rank) -> None:
    """Sets scale and bias of each event in each scene by the games that are held out, and says how well they fit."""
    for kind, log_odds in enumerate(cases.log_odds()):
        scene, event = divmod(kind, len(EVENTS))
        parts = [
            (network(case.latents.float(), case.actions)[:, event], case.came) for case in cases.held_out(scene, event)
        ]
        logits, came = (torch.cat(part) for part in zip(*parts, strict=True))
        scale, bias = fit_line(logits, came, log_odds)
        network.scale[kind], network.bias[kind] = scale, bias
        if rank.leads and len(came):
            fitted = score((scale * logits + bias).sigmoid().cpu().numpy(), came.cpu().numpy() > 0)
            print(f"{EVENTS[event]} in {scenes[scene]}, games held out: {json.dumps(fitted)}", flush=True)
    rank.average([network.scale, network.bias])


def train_probe(args: argparse.Namespace, recording: Recording, rank: Rank) -> None:
    """What judges pictures in `eval`, learnt from recorded frames alone; its config goes into the run's probe.json."""
    places = find_places(recording).to(rank.device)
    rank.average([places])
    config = ProbeConfig(recording.scenes, tuple(places.flatten().tolist()), **PROBE_SIZES[args.preset])
    probe, path, facts = Probe(config), args.run / PROBE, args.run / "probe.json"
    start_from(probe, path, None)
    probe.to(rank.device, memory_format=torch.channels_last)
    source = ProbeSource(recording, places, config.frames)
    if rank.leads:
        noted = json.loads(facts.read_text(encoding="utf-8")) | {"probe": config.to_dict()}
        facts.write_text(json.dumps(noted, indent=1) + "\n", encoding="utf-8")
    if args.compile:
        _prepare_compiler()
        probe.trunk.compile(dynamic=False)

    def loss(generator: torch.Generator, progress: float) -> Loss:
        return probe_loss(probe, *source.draw(args.batch, generator), generator)

    schedule = Schedule(learning_rate=1.5e-3, warmup=100, hold=0.3, ema=0.998)
    length = Length(args.iterations, args.minutes)
    training_loop([Player(probe, loss, schedule, path)], length, seed=args.seed + 5, rank=rank)


class Batches:
    """Windows to learn from: recorded ones, and those that a network plays on from."""

    def __init__(self, args: argparse.Namespace, source: WindowSource, ends: torch.Tensor, rank: Rank):
        draw = torch.Generator(rank.device).manual_seed((args.seed + 3) * rank.count + rank.index)
        self._args, self._source, self._ends, self.rank = args, source, ends, rank
        self.pool = RolloutPool(source, ends, args.rollout_batch, draw) if args.rollout_batch else None

    def recorded(self, generator: torch.Generator) -> Window:
        """Recorded moments, their past as it was."""
        ends = draw_ends(self._source.recording, self._ends, self._args.batch, generator)
        return self._source.draw(ends, generator)

    def mixed(self, generator: torch.Generator) -> Window:
        """Recorded moments with a corrupted past, then those of the pool as they were played."""
        window = spoil_past(self.recorded(generator), generator, corruption=self._args.corruption)
        if self.pool is None:
            return window
        return Window(*(torch.cat(pair) for pair in zip(window, self.pool.window, strict=True)))

    def near(self) -> torch.Tensor:
        """Which rows of `mixed` the truth is asked of: recorded ones, and those that have not played on for long."""
        recorded = torch.ones(self._args.batch, dtype=torch.bool, device=self._ends.device)
        if self.pool is None:
            return recorded
        return torch.cat([recorded, self.pool.played_B < self._args.near])

    def advance(self, made_BC1hw: torch.Tensor, progress: float, generator: torch.Generator) -> None:
        """Plays the pool on with its rows of `made`, the last ones; for longer as the stage goes on."""
        if self.pool is not None:
            rows = made_BC1hw[-self._args.rollout_batch :]
            length = 1 + (self._args.rollout - 1) * min(1.0, progress / ROLLOUT_RAMP)
            self.pool.advance(rows.detach(), length, generator)


def _base_players(args: argparse.Namespace, model: VideoDiT, batches: Batches, path: Path) -> list[Player]:
    """Stages 1 and 2 of Helios in one: flow matching at all levels, on recordings and on a little of its own play."""
    levels = pyramid_levels(len(args.draws))
    _adapt(args, model)
    if args.compile:
        compile_blocks(model)

    def loss(generator: torch.Generator, progress: float) -> Loss:
        window = batches.recorded(generator)
        taught, figures = pyramid_flow_loss(model, window, levels, args.draws, generator, corruption=args.corruption)
        if batches.pool is None:
            return taught, figures
        played, errors, chunks = rollout_loss(model, batches.pool.window, levels, generator)
        batches.advance(chunks, progress, generator)
        share = args.rollout_batch / (args.batch + args.rollout_batch)
        return torch.lerp(taught, played, share), figures | errors

    return [Player(model, loss, _schedule(args), path)]


def _ode_players(args: argparse.Namespace, model: VideoDiT, batches: Batches, path: Path) -> list[Player]:
    """Stage 3a: one step a level where the teacher takes many."""
    levels, teacher = pyramid_levels(len(args.draws)), _teacher(args, model, batches.rank)
    _adapt(args, model)
    if args.compile:
        compile_blocks(model, teacher)

    def loss(generator: torch.Generator, progress: float) -> Loss:
        return ode_loss(model, teacher, batches.mixed(generator), levels, args.teacher_steps, generator)

    return [Player(model, loss, _schedule(args), path)]


def _distil_players(args: argparse.Namespace, model: VideoDiT, batches: Batches, path: Path) -> list[Player]:
    """Stage 3b: distribution matching against the teacher, and an adversarial critic; on the student's own play too."""
    levels, teacher = pyramid_levels(len(args.draws)), _teacher(args, model, batches.rank)
    critic, steps = Critic(copy.deepcopy(teacher)).to(batches.rank.device), [1] * len(args.draws)
    kept = args.run / CRITIC
    if kept.is_file():
        load_into(critic, kept)
    critic.requires_grad_(True)
    judging = args.batch if args.adversary_from < 1 else 0  # rows that the critic's heads see
    _adapt(args, model, critic.score)
    if args.compile:
        compile_blocks(model, teacher, critic.score)

    def criticise(generator: torch.Generator, progress: float) -> Loss:
        window = batches.mixed(generator)
        with torch.no_grad():
            chunk = student_chunk(model, window, levels, steps, generator)
        batches.advance(chunk, progress, generator)
        return critic_loss(critic, chunk, window, levels, generator, draws=args.judge_draws, recorded=judging)

    def distil(generator: torch.Generator, progress: float) -> Loss:
        window = batches.mixed(generator)
        chunk = student_chunk(model, window, levels, steps, generator)
        loss, figures = distribution_matching_loss(
            chunk, teacher, critic.score, window, levels, args.judge_draws, progress, generator
        )
        if args.regression:
            truth = regression_loss(chunk, window, batches.near())
            loss, figures["truth"] = loss + args.regression * truth, truth.detach()
        chunk, window = chunk[: args.batch], window.first(args.batch)  # those with a recorded past
        if progress >= args.adversary_from:
            judged = judged_loss(critic, chunk, window, levels, generator)
            loss, figures["judged"] = loss + judged, judged.detach()
        return loss, figures

    critic_schedule = replace(_schedule(args), learning_rate=2 * args.rate, muon_learning_rate=2 * args.muon_rate)
    return [
        Player(critic, criticise, critic_schedule, kept),
        Player(model, distil, _schedule(args), path, every=args.critic_turns),
    ]


def _adapt(args: argparse.Namespace, *models: VideoDiT) -> None:
    """Where asked for, the large matrices stay as they are, and low-rank adapters learn in their place."""
    for model in models if args.lora else ():
        add_adapters(model, args.lora, args.seed)


def _teacher(args: argparse.Namespace, model: VideoDiT, rank: Rank) -> VideoDiT:
    """The weights that stage 3 began with, frozen; kept in the run, so that it can be gone on with."""
    teacher, kept = copy.deepcopy(model), args.run / TEACHER
    if kept.is_file():
        load_into(teacher, kept)
        print(f"the teacher is {kept}", flush=True)
    elif rank.leads:
        save_weights(kept, teacher.state_dict())
    return teacher.eval().requires_grad_(False)


def _schedule(args: argparse.Namespace) -> Schedule:
    return Schedule(
        learning_rate=args.rate,
        muon_learning_rate=args.muon_rate,
        warmup=args.warmup,
        hold=args.hold,
        ema=args.ema,
    )


def compile_blocks(*models: VideoDiT) -> None:
    """torch.compile, block by block: all blocks of all models share what was compiled, ten graphs instead of dozens."""
    _prepare_compiler()
    for model in models:
        for block in model.blocks:
            block.compile(dynamic=False)


def compile_autoencoder(vae: VideoVAE) -> None:
    """torch.compile of both halves."""
    _prepare_compiler()
    vae.encoder.compile(dynamic=False)
    vae.decoder.compile(dynamic=False)


def _prepare_compiler() -> None:
    # This fusion leaves parts of the gradients of modulation tables unwritten (pytorch#193061, torch 2.10 to 2.13).
    torch._inductor.config.triton.mix_order_reduction = False
    torch._dynamo.config.recompile_limit = 64  # beyond it, what runs is not compiled
