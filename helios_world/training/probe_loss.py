"""What a probe learns: the buttons of every frame, and the state of the game at the last, from softened pictures.

Shapes: B batch, T frames of a chunk, H W frame size, A buttons, S scenes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from helios_world.model.probe import Probe, Reading
from helios_world.model.vae import from_bytes
from helios_world.training.data import Recording
from helios_world.training.game import BUTTONS, SCENARIOS

SOFTENED = 0.6  # share of chunks that are
SAME_BEFORE = 0.5  # share of these whose frame before the chunk stays as it was
MOST_NOISE, MOST_LIGHT = 0.1, 0.15  # deviation of the noise, and how far brightness goes up or down, of -1..1
CONTRASTS = (0.7, 1.2)
FULL_HEALTH = 100.0
MOST_RARITY = 10.0


class Truth(NamedTuple):
    """What is so of a batch of chunks; all but the buttons at the last frame."""

    buttons: Tensor  # (B, T, A) 0 or 1
    acting: Tensor  # (B, A) True for buttons that do something in the scene
    rarity: Tensor  # (B, A) how much a button that is held counts over one that is not
    place: Tensor  # (B, 2) as in `probe.Reading`
    heading: Tensor  # (B, 2) cosine and sine
    health: Tensor  # (B,) 1 is full
    monster: Tensor  # (B,) 0 or 1
    scene: Tensor  # (B,) index


class ProbeSource:
    """Draws chunks of a recording with the frame before each, and what is so of them."""

    def __init__(self, recording: Recording, places: Tensor, chunk: int):
        """Args:
        places: (S, 4) means of x and y and their deviations, by scene.
        """
        device = recording.first.device
        self.ends = recording.chunk_ends(chunk + 1)
        self._recording, self._chunk, self._places = recording, chunk, places.to(device)
        self._poses = torch.from_numpy(recording.poses).to(device)
        self._acting = torch.tensor(
            [[name in SCENARIOS[scene].buttons for name in BUTTONS] for scene in recording.scenes], device=device
        )
        shares = [recording.actions[recording.scene == index].float().mean(dim=0) for index in range(len(places))]
        self._rarity = torch.stack([(1 - share) / share for share in shares]).clamp(max=MOST_RARITY)

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Truth]:
        """uint8 frames (B, 1 + T, H, W, 3), and the truth."""
        pick = torch.randint(len(self.ends), (batch,), device=self.ends.device, generator=generator)
        return self._recording.chunks(self.ends[pick], self._chunk + 1), self.truth(self.ends[pick])

    def truth(self, ends_B: Tensor) -> Truth:
        """Of the chunks that end there."""
        scene, pose, stats = self._recording.scene[ends_B], self._poses[ends_B], self._recording.stats[ends_B]
        steps = torch.arange(1 - self._chunk, 1, device=ends_B.device)
        mean, deviation = self._places[scene].split(2, dim=1)
        radians = pose[:, 2].deg2rad()
        return Truth(
            self._recording.actions[ends_B[:, None] + steps].float(),
            self._acting[scene],
            self._rarity[scene],
            (pose[:, :2] - mean) / deviation,
            torch.stack([radians.cos(), radians.sin()], dim=1),
            stats[:, 0] / FULL_HEALTH,
            stats[:, 1],
            scene,
        )


def find_places(recording: Recording) -> Tensor:
    """float32 (S, 4): where the players of each scene were, see `config.ProbeConfig`."""
    poses, scene = torch.from_numpy(recording.poses), recording.scene.cpu()
    rows = [poses[scene == index, :2] for index in range(len(recording.scenes))]
    return torch.stack([torch.cat([row.mean(dim=0), row.std(dim=0).clamp(min=1.0)]) for row in rows])


def probe_loss(
    probe: Probe, frames_BTHW3: Tensor, truth: Truth, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """4 CE(buttons) + |place - p| + (heading - (cos, sin))^2 + 4 |health - h| + CE(monster) + CE(scene), all means.

    CE is cross-entropy; that of the buttons is over those that act in their scene, where one that is held weighs as
    many times more as it is rarer than not, at most ten times. Frames are softened.
    """
    reading = probe.look(soften(from_bytes(frames_BTHW3, torch.float32), generator))
    acting, rarity = (part[:, None].expand_as(reading.buttons) for part in (truth.acting, truth.rarity))
    told, held = reading.buttons[acting], truth.buttons[acting]
    parts = {
        "buttons": 4 * F.binary_cross_entropy_with_logits(told, held, pos_weight=rarity[acting]),
        "place": F.l1_loss(reading.place, truth.place),
        "heading": F.mse_loss(reading.heading, truth.heading),
        "health": 4 * F.l1_loss(reading.health, truth.health),
        "monster": F.binary_cross_entropy_with_logits(reading.monster, truth.monster),
        "scene": F.cross_entropy(reading.scene, truth.scene),
    }
    figures = {name: part.detach() for name, part in parts.items()}
    return torch.stack(list(parts.values())).sum(), figures | {"held": _balanced(reading, truth)}


def soften(x_BTHW3: Tensor, generator: torch.Generator) -> Tensor:
    """Some chunks blurred, noised and badly exposed, so that a probe does not need the sharpness of the real game."""
    batch, device = len(x_BTHW3), x_BTHW3.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, 1, 1, 1, 1, device=device, generator=generator)

    flat = x_BTHW3.flatten(0, 1).permute(0, 3, 1, 2)
    blurred = [
        F.interpolate(F.avg_pool2d(flat, by), scale_factor=by, mode="bilinear").permute(0, 2, 3, 1).view_as(x_BTHW3)
        for by in (2, 4)
    ]
    soft = torch.where(uniform(0, 1) < 0.5, *blurred)
    y = torch.lerp(x_BTHW3, soft, uniform(0, 1))
    y = y + uniform(0, MOST_NOISE) * torch.randn(x_BTHW3.shape, device=device, generator=generator)
    y = (y * uniform(*CONTRASTS) + uniform(-MOST_LIGHT, MOST_LIGHT)).clamp(-1.0, 1.0)
    first = torch.arange(x_BTHW3.shape[1], device=device)[None, :, None, None, None] == 0
    keep = (uniform(0, 1) >= SOFTENED) | (first & (uniform(0, 1) < SAME_BEFORE))
    return torch.where(keep, x_BTHW3, y)


def _balanced(reading: Reading, truth: Truth) -> Tensor:
    """Balanced accuracy of the buttons that act, all taken together."""
    acting, told, held = truth.acting[:, None].expand_as(truth.buttons), reading.buttons > 0, truth.buttons > 0
    hits = [(told == held)[acting & (held == wanted)].float().mean() for wanted in (True, False)]
    return torch.stack(hits).mean().detach()
