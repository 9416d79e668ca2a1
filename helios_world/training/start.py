"""What a network begins to learn from: the weights of its run so far, or those of a pack, which may know less.

Shapes: D width, C latent channels; T H W latents in a coarse patch, h w in a fine one, r c fine ones in a coarse one.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from helios_world.checkpoint import check_fit, load_into, load_weights
from helios_world.pack import find_pack

SCENE_COLUMNS = "condition_embedder.action_embedder.linear_1.weight"  # the last of its inputs tell the scene
PATCHES = "patch_embedding.weight"
OUTPUTS = ("proj_out.weight", "proj_out.bias")


def start_from(network: torch.nn.Module, path: Path, init: str | None) -> bool:
    """Loads the run's own weights, or the pack's to start from. False if there are none."""
    if path.is_file():
        load_into(network, path)
    elif init is not None:
        start_from_pack(network, find_pack(init) / path.name)
    else:
        return False
    print(f"starting from {path if path.is_file() else init}", flush=True)
    return True


def start_from_pack(network: torch.nn.Module, path: Path) -> None:
    """Loads weights of a network that may know fewer scenes, or see a chunk in coarser patches."""
    weights = fitted(load_weights(path), network)
    check_fit(path, {name: weight.shape for name, weight in weights.items()}, network)
    network.load_state_dict(weights)


def fitted(weights: dict[str, Tensor], network: torch.nn.Module) -> dict[str, Tensor]:
    """The weights as `network` holds them, where that is another shape by its scenes or its patches.

    More scenes make no difference until they have been learnt. A finer patch is embedded as the coarse one around it
    would be, were it the same all over, and answers with the mean of what that one did.
    """
    known, weights = network.state_dict(), dict(weights)
    if SCENE_COLUMNS in weights and SCENE_COLUMNS in known:
        missing = known[SCENE_COLUMNS].shape[1] - weights[SCENE_COLUMNS].shape[1]
        weights[SCENE_COLUMNS] = F.pad(weights[SCENE_COLUMNS], (0, max(0, missing)))
    if PATCHES in weights and PATCHES in known:
        coarse, fine = (tuple(w[PATCHES].shape[2:]) for w in (weights, known))
        if coarse != fine and coarse[0] == fine[0] and not (coarse[1] % fine[1] or coarse[2] % fine[2]):
            weights |= _finer(weights, coarse, fine)
    return weights


def _finer(weights: dict[str, Tensor], coarse: tuple[int, int, int], fine: tuple[int, int, int]) -> dict[str, Tensor]:
    t, h, w = fine
    r, c = coarse[1] // h, coarse[2] // w
    cells_DCTrhcw = weights[PATCHES].unflatten(4, (c, w)).unflatten(3, (r, h))
    outputs = {name: weights[name].unflatten(0, (t, r, h, c, w, -1)).mean(dim=(1, 3)) for name in OUTPUTS}
    return {PATCHES: cells_DCTrhcw.sum(dim=(3, 5))} | {name: x.flatten(0, 3) for name, x in outputs.items()}
