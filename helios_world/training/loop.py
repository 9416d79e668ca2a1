"""The one training loop: any networks, any losses, by iterations or by the clock."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from helios_world.checkpoint import save_weights
from helios_world.config import Config
from helios_world.device import mixed_precision
from helios_world.training.lora import merge_adapters
from helios_world.training.muon import Muon
from helios_world.training.ranks import Rank

Loss = tuple[Tensor, dict[str, Tensor]]  # what to reduce, and figures for the log
LossFn = Callable[[torch.Generator, float], Loss]  # (randomness, progress from 0 to 1)
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes


@dataclass(frozen=True)
class Schedule(Config):
    """How a network is optimised.

    Attributes:
        learning_rate: of AdamW.
        muon_learning_rate: of Muon, which then takes the matrices of the blocks; 0 leaves all to AdamW.
        weight_decay: of the blocks' matrices under Muon.
        warmup: iterations of linear warm-up.
        hold: share of the run before the rate falls, linearly, to 1 %.
        ema: of the averaged weights, which are what is saved.
        clip: largest gradient norm.
    """

    learning_rate: float = 6e-4
    muon_learning_rate: float = 0.0
    weight_decay: float = 0.01
    warmup: int = 200
    hold: float = 0.5
    ema: float = 0.9995
    clip: float = 1.0

    def rate(self, iteration: int, progress: float) -> float:
        """Factor of the learning rates; progress runs from 0 to 1."""
        falling = 1.0 if progress < self.hold else 1.0 - 0.99 * (progress - self.hold) / (1.0 - self.hold)
        return min(1.0, (iteration + 1) / self.warmup) * max(falling, 0.01)


@dataclass(frozen=True)
class Length:
    """A run ends at `iterations` or after `minutes`, whichever comes first."""

    iterations: int = 4000
    minutes: float = 600.0


class Player:
    """A network that learns, in turn with others that its loss may depend on. All its gradients are its own.

    Parameters that require no gradient stay as they are.

    Args:
        loss: of this network, asked for at each of its turns.
        path: where the averaged weights go, and beside it the log.
        every: it has a turn in every so many-th iteration.
    """

    def __init__(self, network: nn.Module, loss: LossFn, schedule: Schedule, path: Path, *, every: int = 1):
        self.network, self.path, self.every = network, path, every
        self._loss, self._schedule = loss, schedule
        self._optimizers = make_optimizers(network, schedule)
        self._base_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self._optimizers]
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._averaged = [p.detach().clone() for p in self._parameters]
        self._guard = SpikeGuard(schedule.clip, self._parameters[0].device)
        self._turns = 0
        network.train()

    def turn(self, generator: torch.Generator, progress: float, rank: Rank) -> dict[str, Tensor]:
        """One step of the optimisers. Returns figures for the log."""
        factor = self._schedule.rate(self._turns, progress)
        for optimizer, rates in zip(self._optimizers, self._base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        with mixed_precision(rank.device):
            loss, figures = self._loss(generator, progress)
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        gradients = [g if g is None else _laid_out_as(p, g) for p, g in zip(self._parameters, gradients, strict=True)]
        known = [gradient for gradient in gradients if gradient is not None]
        rank.average(known)
        norm = self._guard.clip(known)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        decay = min(self._schedule.ema, (self._turns + 1) / (self._turns + 10))
        torch._foreach_lerp_(self._averaged, [p.detach() for p in self._parameters], 1 - decay)
        self._turns += 1
        return {"loss": loss.detach(), "norm": norm, "spikes": self._guard.spikes, **figures}

    def save(self) -> None:
        """Writes the averaged weights."""
        names = [name for name, parameter in self.network.named_parameters() if parameter.requires_grad]
        averaged = dict(zip(names, self._averaged, strict=True))
        save_weights(self.path, merge_adapters({**self.network.state_dict(), **averaged}))

    def settle(self) -> None:
        """Leaves the network with its averaged weights, for use."""
        with torch.no_grad():
            for parameter, average in zip(self._parameters, self._averaged, strict=True):
                parameter.copy_(average)
        self.network.eval()


def training_loop(players: Sequence[Player], length: Length, *, seed: int, rank: Rank) -> None:
    """Trains the networks of `players` in place, leaves them with their averaged weights, and writes those.

    A run is resumed by starting it from the weights that were written: the optimisers warm up anew. Ranks must start
    with equal weights; each draws its own batches, and equal gradients keep the weights equal.
    """
    generator = torch.Generator(rank.device).manual_seed(seed * rank.count + rank.index)
    journals = [Journal(player.path) for player in players] if rank.leads else []
    began = saved = time.monotonic()
    for iteration, progress in _iterations(length, began, rank):
        for number, player in enumerate(players):
            if iteration % player.every:
                continue
            figures = player.turn(generator, progress, rank)
            if journals and iteration // player.every % 50 == 0:
                minutes = (time.monotonic() - began) / 60
                journals[number].write({"iteration": iteration, "minutes": minutes, **figures}, progress)
        if rank.leads and time.monotonic() - saved > 60:
            for player in players:
                player.save()
            saved = time.monotonic()
    for player in players:
        if rank.leads:
            player.save()
        player.settle()
    for journal in journals:
        journal.close()


class Journal:
    """What a run tells: a progress bar and lines for people, one JSON object a line beside the weights for programs."""

    def __init__(self, path: Path):
        self._path = path
        self._file = path.with_suffix(".jsonl").open("a", encoding="utf-8")
        self._bar = tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed}<{remaining}", disable=None)

    def write(self, figures: Mapping[str, Tensor | float], progress: float) -> None:
        """Waits for the device. RuntimeError if the loss is not a number: going on would spoil the weights."""
        report = {name: round(float(value), 5) for name, value in figures.items()}
        print(json.dumps(report), file=self._file, flush=True)
        self._bar.update(100 * progress - self._bar.n)
        self._bar.write("  ".join(f"{name} {value:g}" for name, value in report.items()))
        if not math.isfinite(report["loss"]):
            raise RuntimeError(f"the loss is not a number any more, the weights at {self._path} are older: {report}")

    def close(self) -> None:
        self._bar.update(100 - self._bar.n)
        self._bar.close()
        self._file.close()


class SpikeGuard:
    """Clips gradients, and drops those whose norm is far over the usual: one of them can undo hundreds of steps.

    Nothing is hidden: `spikes` counts what was dropped and stands in the log.
    """

    FACTOR, PATIENCE = 10.0, 50

    def __init__(self, clip: float, device: torch.device):
        self._clip = clip
        self._usual = torch.zeros((), device=device)  # running mean of the norm; all on the device, so nothing waits
        self._seen = 0
        self.spikes = torch.zeros((), device=device)

    def clip(self, gradients: Sequence[Tensor]) -> Tensor:
        """Scales the gradients in place; returns their norm before that."""
        norm = nn.utils.get_total_norm(gradients)
        usual = norm <= self.FACTOR * self._usual  # not a number is not usual either
        spike = ~usual & (self._seen >= self.PATIENCE)
        rate = 1 / min(self._seen + 1, self.PATIENCE)
        # A spike counts as the most that is usual: norms that stay high become usual within some turns.
        counted = torch.where(spike, self.FACTOR * self._usual, norm)
        self._usual = torch.lerp(self._usual, counted, rate)
        self.spikes = self.spikes + spike
        self._seen += 1
        torch._foreach_mul_(gradients, (self._clip / (norm + 1e-6)).clamp(max=1.0))
        # All bits times 0 or 1, as integers: a product of floats would keep what is not a number.
        bits = [gradient.view(INTEGERS[gradient.itemsize]) for gradient in gradients]
        torch._foreach_mul_(bits, (~spike).to(bits[0].dtype))
        return norm


def _laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in the format and strides of its parameter: fused optimisers ask for both, and `torch.autograd.grad`
    promises neither."""
    if gradient.dtype == parameter.dtype and gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def make_optimizers(network: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside blocks where asked for, AdamW for everything else."""
    matrices, others = [], []
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        inside = "blocks." in name and parameter.ndim == 2
        (matrices if inside and schedule.muon_learning_rate else others).append(parameter)
    optimizers: list[torch.optim.Optimizer] = []
    if others:
        fused = others[0].is_cuda
        optimizers.append(
            torch.optim.AdamW(others, lr=schedule.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=fused)
        )
    if matrices:
        optimizers.append(Muon(matrices, schedule.muon_learning_rate, weight_decay=schedule.weight_decay))
    return optimizers


def _iterations(length: Length, began: float, rank: Rank) -> Iterator[tuple[int, float]]:
    """(iteration, progress) until iterations or minutes run out, the same on every rank."""
    iteration, progress = 0, 0.0
    while progress < 1.0:
        yield iteration, progress
        iteration += 1
        elapsed = (time.monotonic() - began) / (60 * length.minutes)
        progress = rank.agree(max(iteration / length.iterations, elapsed))
