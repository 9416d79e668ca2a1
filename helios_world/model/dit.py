"""The Helios transformer (arXiv 2603.04379): clean history and noisy chunk in one sequence.

Nothing about sampling or training.

One class for the small embedded world and the released 14B; parameter names are the released ones.
Shapes: B batch, C latent channels, T latent frames, H W latent size, N tokens, D width, A action numbers, L text.
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from helios_world.config import TransformerConfig
from helios_world.model.attention import Block, KeysValues, Modulation, modulate
from helios_world.model.conditioning import ConditionEmbedder
from helios_world.model.memory import FrameIndices, Memory, frame_indices
from helios_world.model.rope import Table, at_frames, join, pad_to_multiple, rope_table

FLOAT32 = frozenset(  # words in the names of weights that are kept in float32 where the others are bfloat16
    ("time_embedder", "action_embedder", "scale_shift_table", "norm2", "norm_q", "norm_k", "history_key_scale")
)


class HistoryContext(NamedTuple):
    """History worked out once for all denoise steps of a chunk: keys and values per block. Needs restrict_self_attn."""

    layers: tuple[KeysValues, ...]
    grid: tuple[int, int]  # full-size token grid


class OutputHead(nn.Module):
    """Holds the released name `norm_out.scale_shift_table`."""

    def __init__(self, width: int):
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.zeros(1, 2, width))


class VideoDiT(nn.Module):
    """Predicts the flow velocity (noise minus data) of a noisy chunk, given memory, actions and text.

    Attributes:
        gradient_checkpointing: keep what each block was given and compute it again for its gradients: less memory, a
            third more time.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config, self.gradient_checkpointing = config, False
        c, d = config.in_channels, config.width
        long, mid, short = (tuple(factor * size for size in config.short_patch) for factor in (4, 2, 1))
        self.patch_embedding = nn.Conv3d(c, d, config.patch_size, config.patch_size)
        self.patch_short = nn.Conv3d(c, d, short, short)
        self.patch_mid = nn.Conv3d(c, d, mid, mid)
        self.patch_long = nn.Conv3d(c, d, long, long)
        self.condition_embedder = ConditionEmbedder(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm_out = OutputHead(d)
        self.proj_out = nn.Linear(d, config.out_channels * prod(config.patch_size))

    @property
    def dtype(self) -> torch.dtype:
        """What the noisy chunk, the memory and the text must have; the answer has it too."""
        return self.proj_out.weight.dtype

    def encode_history(self, memory: Memory) -> HistoryContext:
        """Runs the history tokens alone. Only where they do not attend to the noisy chunk (restrict_self_attn)."""
        x, grid = self._embed_history(memory)
        _, rows = self.condition_embedder(torch.zeros(1, device=x.device), None)
        indices = frame_indices(self.config.history_sizes, 1)
        rope = self._history_rope(indices, grid, x.device, memory.anchor_age_B)
        layers, last = [], len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            x, kv = self._run(block, x, (Modulation(rows, x.shape[1]),), rope, keys_alone=index == last)
            layers.append(kv if torch.is_grad_enabled() else tuple(part.contiguous() for part in kv))  # kept for long
        return HistoryContext(tuple(layers), grid)

    def forward(
        self,
        x_BCTHW: Tensor,
        timestep_B: Tensor,
        memory: Memory | HistoryContext,
        actions_BTA: Tensor | None = None,
        text_BLD: Tensor | None = None,
    ) -> Tensor:
        """Velocity of the same shape as x. For its arguments see `tapped`."""
        return self.tapped(x_BCTHW, timestep_B, memory, actions_BTA, text_BLD)[0]

    def tapped(
        self,
        x_BCTHW: Tensor,
        timestep_B: Tensor,
        memory: Memory | HistoryContext,
        actions_BTA: Tensor | None = None,
        text_BLD: Tensor | None = None,
        taps: Collection[int] = (),
    ) -> tuple[Tensor, list[Tensor]]:
        """Velocity of the same shape as x, and the noisy tokens (B, N, D) after each of the blocks `taps`.

        Args:
            x_BCTHW: the noisy chunk, at the resolution of its pyramid level. With a HistoryContext, B may be a
                multiple of the context's batch: draws that share a past stand next to each other.
            timestep_B: 0 (clean) to 1000 (noise).
            memory: always at full resolution, with the anchor, which a network without one leaves out. Absolute
                positions need the anchor's age.
            actions_BTA: held buttons per latent frame, then 1 for the scene and 0 for the others (scene_dim).
            text_BLD: text embedding, for a model with text.
        """
        frames = x_BCTHW.shape[2]
        assert actions_BTA is None or actions_BTA.shape[1] == frames, "actions come one row per latent frame"
        noisy_grid = self._grid(x_BCTHW)
        x = embed_patches(self.patch_embedding, x_BCTHW)
        temb, rows = self.condition_embedder(timestep_B, actions_BTA)
        indices = frame_indices(self.config.history_sizes, frames)
        text = self.condition_embedder.text_embedder(text_BLD) if text_BLD is not None else None
        noisy, tapped = x.shape[1], []
        modulation = (Modulation(rows, noisy),)
        if isinstance(memory, HistoryContext):
            rope = self._noisy_rope(indices, noisy_grid, memory.grid, x.device)
            for index, (block, past) in enumerate(zip(self.blocks, memory.layers, strict=True)):
                x, _ = self._run(block, x, modulation, rope, _repeat(past, x.shape[0]), text, noisy)
                if index in taps:
                    tapped.append(x)
        else:
            if self.config.restrict_self_attn:
                return self.tapped(x_BCTHW, timestep_B, self.encode_history(memory), actions_BTA, text_BLD, taps)
            history, grid = self._embed_history(memory)
            clean = torch.zeros(1, device=x.device) if self.config.zero_history_timestep else timestep_B
            _, history_rows = self.condition_embedder(clean, None)
            modulation = (Modulation(history_rows, history.shape[1]), *modulation)
            past_rope = self._history_rope(indices, grid, x.device, memory.anchor_age_B)
            rope = join([past_rope, self._noisy_rope(indices, noisy_grid, grid, x.device)])
            x = torch.cat([history, x], dim=1)
            for index, block in enumerate(self.blocks):
                x, _ = self._run(block, x, modulation, rope, None, text, noisy)
                if index in taps:
                    tapped.append(x[:, -noisy:])
            x = x[:, -noisy:]
        return self._unpatchify(self._head(x, temb), frames, noisy_grid), tapped

    def _run(self, block: nn.Module, *inputs: Any, **named: Any) -> tuple[Tensor, KeysValues]:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False, **named)
        return block(*inputs, **named)

    def _head(self, x_BND: Tensor, temb_BRD: Tensor) -> Tensor:
        rows = self.norm_out.scale_shift_table[:, None].float() + temb_BRD.float()[:, :, None]
        shift, scale = rows.unbind(2)
        return self.proj_out(modulate(x_BND, shift, scale, eps=self.config.eps))

    def _unpatchify(self, x_BND: Tensor, frames: int, grid: tuple[int, int]) -> Tensor:
        pt, ph, pw = self.config.patch_size
        x = x_BND.reshape(-1, frames // pt, *grid, pt, ph, pw, self.config.out_channels)
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)  # B C T pt H ph W pw: channel is the fastest axis of a token
        return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def _embed_history(self, memory: Memory) -> tuple[Tensor, tuple[int, int]]:
        """Tokens in the order long, mid, short, and the full-size token grid."""
        embedders = (self.patch_long, self.patch_mid, self.patch_short)
        short = memory.short if self.config.anchor else memory.short[:, :, 1:]
        tokens = [
            embed_patches(embed, pad_to_multiple(part, embed.kernel_size))
            for embed, part in zip(embedders, (memory.long, memory.mid, short), strict=True)
        ]
        return torch.cat(tokens, dim=1), self._grid(memory.short)

    def _grid(self, x_BCTHW: Tensor) -> tuple[int, int]:
        return x_BCTHW.shape[-2] // self.config.patch_size[1], x_BCTHW.shape[-1] // self.config.patch_size[2]

    def _history_rope(
        self, indices: FrameIndices, grid: tuple[int, int], device: torch.device, anchor_age_B: Tensor | None
    ) -> Table:
        """In the order of the tokens; by row where the anchor's age counts."""
        absolute = self.config.anchor and self.config.positions == "absolute"
        short = indices.short if self.config.anchor and not absolute else indices.short[1:]
        high, wide = self.config.fineness
        pools = [(factor, factor * high, factor * wide) for factor in (4, 2, 1)]
        groups = zip((indices.long, indices.mid, short), pools, strict=True)
        tables = [self._rope(*group, grid, device) for group in groups]
        if absolute:
            assert anchor_age_B is not None, "absolute positions need the anchor's age"
            anchor = self._rope(indices.short[:1], pools[-1], grid, device)
            frame_B = indices.noisy[0] - anchor_age_B
            tables.insert(2, at_frames(anchor, frame_B, self.config.rope_dim[0], self.config.rope_theta))
        return join(tables)

    def _noisy_rope(
        self, indices: FrameIndices, grid: tuple[int, int], full: tuple[int, int], device: torch.device
    ) -> Table:
        if not self.config.align_levels:
            return self._rope(indices.noisy, (1, 1, 1), grid, device)
        return self._rope(indices.noisy, (1, full[0] // grid[0], full[1] // grid[1]), full, device)

    def _rope(
        self, frames: tuple[int, ...], pool: tuple[int, int, int], grid: tuple[int, int], device: torch.device
    ) -> Table:
        config = self.config
        return rope_table(frames, grid, config.rope_dim, config.rope_theta, pool, device, config.fineness)


def embed_patches(embed: nn.Conv3d, x_BCTHW: Tensor) -> Tensor:
    """Tokens (B, N, D) of a convolution whose stride is its kernel, as the one matrix product that it is.

    The convolution itself is far off in bfloat16 on processors with AMX (pytorch#169688, torch 2.11 to 2.13): with it,
    a world forgets its past.
    """
    x = x_BCTHW
    for axis, size in zip((2, 4, 6), embed.kernel_size, strict=True):
        x = x.unflatten(axis, (-1, size))
    patches = x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)  # B N (C pt ph pw)
    return F.linear(patches, embed.weight.flatten(1), embed.bias)


def initialise(model: VideoDiT, generator: torch.Generator) -> None:
    """Fresh weights. Zero at first, so that the network starts as the identity and actions start without effect:
    gates and modulation, the output, the last layer of the action embedder. Memory patches start as averages of the
    plain patch, as the release derives them."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
        for zero in (model.condition_embedder.time_proj, model.proj_out):
            nn.init.zeros_(zero.weight)
        if model.config.action_dim:
            nn.init.zeros_(model.condition_embedder.action_embedder.linear_2.weight)
        nn.init.xavier_uniform_(model.patch_embedding.weight.flatten(1), generator=generator)
        nn.init.zeros_(model.patch_embedding.bias)
        for patch in (model.patch_short, model.patch_mid, model.patch_long):
            weight = model.patch_embedding.weight
            for axis, size in zip((2, 3, 4), patch.kernel_size, strict=True):
                weight = weight.repeat_interleave(size // weight.shape[axis], dim=axis)
            patch.weight.copy_(weight * (prod(model.config.patch_size) / prod(patch.kernel_size)))
            patch.bias.copy_(model.patch_embedding.bias)


def initialise_actions(model: VideoDiT, generator: torch.Generator) -> None:
    """A fresh action embedder whose last layer is zero: until it is trained, actions add nothing to the output."""
    first, last = model.condition_embedder.action_embedder.linear_1, model.condition_embedder.action_embedder.linear_2
    with torch.no_grad():
        nn.init.xavier_uniform_(first.weight, generator=generator)
        for zero in (first.bias, last.weight, last.bias):
            nn.init.zeros_(zero)


def weight_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """What weight `name` is kept in where the network computes in `dtype`: a few small ones never under float32."""
    return torch.promote_types(dtype, torch.float32) if FLOAT32 & set(name.split(".")) else dtype


def cast_weights(model: VideoDiT, dtype: torch.dtype) -> VideoDiT:
    """The same model, from now on computing in `dtype`."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(weight_dtype(name, dtype))
    return model


def _repeat(past: KeysValues, batch: int) -> KeysValues:
    """Keys and values for draws that share a past: (B, ...) to (B * draws, ...)."""
    draws = batch // past[0].shape[0]
    return past if draws == 1 else tuple(part.repeat_interleave(draws, dim=0) for part in past)
