"""The latents of a state as numpy arrays, and back: what worlds that compute with torch have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from helios_world.errors import UserError
from helios_world.world import WorldState


def latents_to_arrays(state: WorldState) -> Mapping[str, np.ndarray]:
    """`history` and `anchor`, lossless."""
    return {"history": state.history.cpu().numpy(), "anchor": state.anchor.cpu().numpy()}


def latents_from_arrays(
    arrays: Mapping[str, np.ndarray], head: WorldState, shape: tuple[int, ...], device: torch.device
) -> WorldState:
    """`head` with its latents, float32 on `device`.

    Args:
        shape: of the history, (channels, frames, height, width); the anchor has one frame.
    Raises:
        UserError: an array is missing or has another shape.
    """
    found = {}
    for name, wanted in (("history", shape), ("anchor", (shape[0], 1, *shape[2:]))):
        if name not in arrays or arrays[name].shape != wanted or arrays[name].dtype != np.float32:
            raise UserError(f"snapshot does not hold {name} as float32 {wanted}")
        found[name] = torch.from_numpy(arrays[name].copy()).to(device)
    return replace(head, **found)
