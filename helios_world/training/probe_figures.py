"""What a probe reads from generated frames, beside what it reads from the real game's and what was so.

Shapes: N trajectories, T frames of a recording, t frames of a chunk, A buttons, F features; n rows of any kind.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from helios_world.checkpoint import load_into
from helios_world.model.probe import Probe
from helios_world.pack import PROBE, read_pack
from helios_world.training.endurance import LOOK, Watched
from helios_world.training.evaluation import Trajectories
from helios_world.training.game import BUTTONS, SCENARIOS
from helios_world.training.similarity import frechet, turned

READ_CHUNKS = 16  # of each trajectory, from the first after the context
STATE_AT = (1, 4, 16)  # of these
BATCH = 64  # chunks that are read at once
MOST_REFERENCE = 4096  # real chunks that features are compared with


class Told(NamedTuple):
    """What a probe told of n chunks, in the game's units."""

    buttons: np.ndarray  # (n, t, A) logits
    place: np.ndarray  # (n, 2) map units
    heading: np.ndarray  # (n,) degrees
    health: np.ndarray  # (n,) 0 to 100
    monster: np.ndarray  # bool (n,)
    features: np.ndarray  # (n, F)

    @property
    def held(self) -> np.ndarray:
        """Which buttons were held for each frame, bool (n, t, A)."""
        return self.buttons > 0

    @property
    def turns(self) -> np.ndarray:
        """How much more each chunk turns to the left than to the right, (n,), in logits."""
        left, right = (self.buttons[..., BUTTONS.index(f"turn_{side}")] for side in ("left", "right"))
        return (left - right).mean(axis=1)


class Reader:
    """A probe, asked about frames of one scene."""

    def __init__(self, probe: Probe, scene: str):
        self._probe = probe.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self._device = probe.heads.weight.device
        index = probe.config.scenes.index(scene)
        self._mean, self._deviation = np.split(np.array(probe.config.places[4 * index : 4 * index + 4]), 2)
        self.scene, self.window = scene, 1 + probe.config.frames

    @torch.inference_mode()
    def read(self, windows: np.ndarray) -> Told:
        """Of uint8 (n, 1 + t, H, W, 3): chunks, each after the frame before it."""
        parts = [self._probe(torch.from_numpy(np.ascontiguousarray(some)).to(self._device)) for some in _split(windows)]
        joined = [torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True)]
        buttons, place, heading, health, monster, _, features = joined
        degrees = np.degrees(np.arctan2(heading[:, 1], heading[:, 0]))
        units = place * self._deviation + self._mean
        return Told(buttons, units, degrees, 100 * health, monster > 0, features)

    def features(self, windows: np.ndarray) -> np.ndarray:
        """(n, F) of the same."""
        return self.read(windows).features


def load_reader(world: str, scene: str, device: torch.device) -> Reader | None:
    """The probe of a pack, by name or folder, for a scene; None, and a line on stderr, without one that knows it."""
    pack = read_pack(world)
    config = None if pack.networks is None else pack.networks.probe
    if config is None or scene not in config.scenes:
        print(
            f"world {world} has no probe for {scene}: inverse dynamics, state and Frechet are left out", file=sys.stderr
        )
        return None
    probe = Probe(config)
    load_into(probe, pack.folder / PROBE)
    return Reader(probe.to(device), scene)


class Readings:
    """What is read while `evaluation.compare` goes on: of generated chunks, of the real ones, and of stills."""

    def __init__(self, reader: Reader, real: Trajectories, context: int, t: int):
        self._reader, self._real, self._context, self._t = reader, real, context, t
        self._made: list[Told] = []
        self._played: list[Told] = []
        began = real.frames[:, context * t - 1 : context * t]
        self._still = reader.read(np.repeat(began, 1 + t, axis=1))

    def watch(self, k: int, window: np.ndarray) -> None:
        """Chunk k of all trajectories and the frame before it; see `evaluation.compare`."""
        if k <= READ_CHUNKS:
            end = (self._context + k) * self._t
            self._made.append(self._reader.read(window))
            self._played.append(self._reader.read(self._real.frames[:, end - self._t - 1 : end]))

    @property
    def reference(self) -> np.ndarray:
        """Features of real chunks, (n, F)."""
        return np.concatenate([told.features for told in self._played])[:MOST_REFERENCE]

    def figures(self) -> dict[str, Any]:
        """Inverse dynamics and state of what was watched."""
        low = self._context * self._t
        actions = self._real.actions[:, low : low + len(self._made) * self._t]
        held = actions.reshape(len(actions), len(self._made), self._t, -1).swapaxes(0, 1) > 0.5  # as chunks came
        read = {"": self._made, "real_": self._played, "copy_last_": [self._still] * len(self._made)}
        told = {who: np.concatenate([part.held for part in parts]) for who, parts in read.items()}
        acting = SCENARIOS[self._real.scene].buttons
        dynamics = inverse_dynamics(told, np.concatenate(list(held)), acting)
        at = [k for k in STATE_AT if k <= len(self._made)]
        ends = [(self._context + k) * self._t - 1 for k in at]
        poses, stats = self._real.poses[:, ends].swapaxes(0, 1), self._real.stats[:, ends].swapaxes(0, 1)
        states = {who: [parts[k - 1] for k in at] for who, parts in read.items()}
        walks = "forward" in acting
        return {"inverse_dynamics": dynamics, "state_probe": state_errors(states, poses, stats, at, walks=walks)}


def inverse_dynamics(told: Mapping[str, np.ndarray], held_ntA: np.ndarray, buttons: Sequence[str]) -> dict[str, Any]:
    """How often the buttons that a probe sees at work are those that were held, by button; and on average.

    Args:
        told: by who made the frames, as a prefix; "real_" is the most there can be.
    Returns:
        accuracies, balanced ones (a half is chance) and the mean of these (`overall`), what always saying the commoner
        gets (`data_mean_`), and how far `overall` is over chance as a share of the real game's (`to_real`).
    """
    figures: dict[str, Any] = {}
    columns = {name: BUTTONS.index(name) for name in buttons}
    truth = {name: held_ntA[..., column] for name, column in columns.items()}
    for who, guesses in told.items():
        right = {name: float((guesses[..., columns[name]] == truth[name]).mean()) for name in buttons}
        balanced = {name: balanced_accuracy(guesses[..., columns[name]], truth[name]) for name in buttons}
        known = [value for value in balanced.values() if value is not None]
        figures[f"{who}accuracy"] = {name: round(value, 3) for name, value in right.items()}
        figures[f"{who}balanced_accuracy"] = {n: None if v is None else round(v, 3) for n, v in balanced.items()}
        figures[f"{who}overall"] = round(float(np.mean(known)), 3) if known else None
    shares = {name: float(held.mean()) for name, held in truth.items()}
    figures["data_mean_accuracy"] = {name: round(max(share, 1 - share), 3) for name, share in shares.items()}
    figures["data_mean_overall"] = 0.5
    made, real = figures["overall"], figures["real_overall"]
    figures["to_real"] = round((made - 0.5) / (real - 0.5), 3) if made is not None and real > 0.5 else None
    return figures


def balanced_accuracy(told: np.ndarray, held: np.ndarray) -> float | None:
    """Mean of how often a button is told that is held, and not told that is not; None where it is always or never."""
    if held.all() or not held.any():
        return None
    return float((told[held].mean() + (~told[~held]).mean()) / 2)


def state_errors(
    told: Mapping[str, Sequence[Told]], poses_KN3: np.ndarray, stats_KN2: np.ndarray, at: Sequence[int], *, walks: bool
) -> dict[str, Any]:
    """Mean errors of what a probe says of K chunks, beside always saying the mean of these games (`data_mean_`).

    Without place where nobody walks, without health and monsters where they are always the same.
    """
    measures = {"heading_deg": lambda said, pose, stats: turned(said.heading, pose[:, 2]).mean()}
    if walks:
        measures["position_map_units"] = lambda said, pose, stats: np.linalg.norm(
            said.place - pose[:, :2], axis=1
        ).mean()
    if np.ptp(stats_KN2[..., 0]) > 0:
        measures["health"] = lambda said, pose, stats: np.abs(said.health - stats[:, 0]).mean()
    if np.ptp(stats_KN2[..., 1]) > 0:
        measures["monster_accuracy"] = lambda said, pose, stats: (said.monster == (stats[:, 1] > 0)).mean()
    mean = [_mean_state(poses_KN3.reshape(-1, 3), stats_KN2.reshape(-1, 2))] * len(at)
    return {
        f"{who}{name}": {
            str(k): round(float(measure(said, *truth)), 3)
            for k, said, truth in zip(at, parts, zip(poses_KN3, stats_KN2, strict=True), strict=True)
        }
        for name, measure in measures.items()
        for who, parts in {**told, "data_mean_": mean}.items()
    }


def _mean_state(poses_n3: np.ndarray, stats_n2: np.ndarray) -> Told:
    """What always saying the mean says: one row, for all."""
    radians = np.radians(poses_n3[:, 2])
    heading = np.degrees(np.arctan2(np.sin(radians).mean(), np.cos(radians).mean()))
    health, monster = stats_n2.mean(axis=0)
    nothing = np.zeros((1, 0))
    return Told(nothing, poses_n3[:, :2].mean(axis=0), heading, health, np.array(monster > 0.5), nothing)


def frechet_by_time(
    reader: Reader, made: Watched, real: Watched, reference_nF: np.ndarray, ends: Mapping[int, int]
) -> dict[str, Any]:
    """Frechet distances of features to those of other real games, by time; of the real games beside them as floors.

    `ends` are chunks by seconds. Where the real games are shorter, their latest time stands for later ones.
    """
    t, mean = reader.window, real.frames.mean(axis=(0, 1)).round().astype(np.uint8)
    still = reader.features(np.repeat(made.before[:, None], t, axis=1))
    flat = reader.features(np.repeat(mean[None, None], t, axis=1))
    latest = max((end for end in ends.values() if end in real.features), default=None)
    figures: dict[str, Any] = {"frechet": {}, "real_frechet": {}, "copy_last_frechet": {}, "data_mean_frechet": {}}
    for seconds, end in ends.items():
        rows = {"": _look(made, end), "copy_last_": still, "data_mean_": flat}
        floor = end if end in real.features else latest
        if floor is not None:
            rows["real_"] = _look(real, floor)
        for who, features in rows.items():
            figures[f"{who}frechet"][f"{seconds}_s"] = round(frechet(features, reference_nF), 3)
    return figures


def _look(watched: Watched, end: int) -> np.ndarray:
    """Features (n, F) of all chunks that a look at chunk `end` takes in."""
    return np.concatenate([watched.features[k] for k in range(max(1, end - LOOK + 1), end + 1)])


def _split(windows: np.ndarray) -> list[np.ndarray]:
    return [windows[low : low + BATCH] for low in range(0, len(windows), BATCH)]
