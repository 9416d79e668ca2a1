"""What a network begins from: a pack that knows fewer scenes, or sees a chunk in coarser patches."""

from dataclasses import replace

import pytest
import torch

from helios_world.checkpoint import save_weights
from helios_world.config import TINY
from helios_world.errors import PackError
from helios_world.model.dit import VideoDiT, embed_patches, initialise
from helios_world.training.start import start_from_pack


def test_a_network_that_learns_another_scene_begins_as_it_was(tmp_path):
    known, more = VideoDiT(TINY), VideoDiT(replace(TINY, scene_dim=2))
    generator = torch.Generator().manual_seed(0)
    initialise(known, generator)
    for zero_at_first in (known.proj_out, known.condition_embedder.action_embedder.linear_2):
        torch.nn.init.normal_(zero_at_first.weight, std=0.1, generator=generator)
    path = tmp_path / "transformer.safetensors"
    save_weights(path, known.state_dict())
    start_from_pack(more, path)
    embed, wider = (m.condition_embedder.action_embedder for m in (known, more))
    actions = torch.randn(5, 28, generator=generator)
    torch.testing.assert_close(wider(torch.cat([actions, torch.ones(5, 2)], dim=1)), embed(actions))
    save_weights(path, more.state_dict())
    with pytest.raises(PackError, match=r"linear_1.weight is \(32, 30\): must be \(32, 28\)"):
        start_from_pack(known, path)


def test_a_network_with_finer_patches_begins_as_it_was_where_nothing_changes_within_a_patch(tmp_path):
    coarse, fine = VideoDiT(replace(TINY, patch_size=(1, 2, 2))), VideoDiT(replace(TINY, patch_size=(1, 1, 2)))
    initialise(coarse, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(coarse.proj_out.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    path = tmp_path / "transformer.safetensors"
    save_weights(path, coarse.state_dict())
    start_from_pack(fine, path)
    rows = torch.randn(2, 16, 1, 4, 12, generator=torch.Generator().manual_seed(2))
    tall = rows.repeat_interleave(2, dim=3)
    wanted, found = (embed_patches(m.patch_embedding, tall) for m in (coarse, fine))
    torch.testing.assert_close(found.unflatten(1, (4, 2, 6)), wanted.unflatten(1, (4, 1, 6)).expand(-1, -1, 2, -1, -1))
    token = torch.randn(1, TINY.width, generator=torch.Generator().manual_seed(3))
    cells = coarse.proj_out(token).view(2, 2, 16)  # height, width, channel
    torch.testing.assert_close(fine.proj_out(token).view(2, 16), cells.mean(dim=0))
    with pytest.raises(PackError, match=r"patch_embedding.weight is \(32, 16, 1, 2, 2\): must be \(32, 16, 1, 4, 4\)"):
        start_from_pack(VideoDiT(replace(TINY, patch_size=(1, 4, 4), history_patch_size=(1, 4, 4))), path)
