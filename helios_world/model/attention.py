"""Attention with query and key norms across all heads, and the block built around it.

Shapes: B batch, N tokens, D width, h heads, R modulation rows (one per latent frame or per sample), K vectors in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helios_world.config import TransformerConfig
from helios_world.model import lean
from helios_world.model.rope import Table, apply_rope

KeysValues = tuple[Tensor, Tensor]  # each (B, h, N, D/h)
LARGEST_KEY_SCALE = 10.0  # of history, where it is amplified


class Modulation(NamedTuple):
    """What modulates a run of tokens: its rows, each of which rules an equal share of the run, in order.

    Rows are never copied to tokens: they stay a few per sample, however long the run.
    """

    rows_BRKD: Tensor
    tokens: int


class Attention(nn.Module):
    """Projections of one attention; who attends to whom is the block's matter."""

    def __init__(self, config: TransformerConfig, *, amplify_history: bool = False):
        super().__init__()
        width = config.width
        self.heads = config.num_attention_heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.norm_q, self.norm_k = (nn.RMSNorm(width, eps=config.eps) for _ in range(2))
        factors = 1 if config.history_scale_mode == "scalar" else self.heads
        self.history_key_scale = nn.Parameter(torch.ones(factors)) if amplify_history else None

    def queries(self, x_BND: Tensor, rope: Table | None) -> Tensor:
        return self._turned(lean.linear(self.to_q, x_BND), self.norm_q, rope)

    def keys_values(self, x_BND: Tensor, rope: Table | None, history: int = 0) -> KeysValues:
        """Args:
        history: how many tokens, counted from the first, are history, whose keys may be amplified.
        """
        k_BhND = self._turned(lean.linear(self.to_k, x_BND), self.norm_k, rope)
        if self.history_key_scale is not None and history:
            scale = 1 + torch.sigmoid(self.history_key_scale.float()) * (LARGEST_KEY_SCALE - 1)
            past, new = k_BhND.split((history, k_BhND.shape[2] - history), dim=2)
            k_BhND = torch.cat([(past.float() * scale.view(-1, 1, 1)).to(past.dtype), new], dim=2)
        return k_BhND, self._heads(lean.linear(self.to_v, x_BND), None)

    def attend(self, q_BhND: Tensor, kv: KeysValues, past: KeysValues | None = None) -> Tensor:
        """To the tokens of `kv`, and to those of `past` before them."""
        groups = [kv] if past is None else [past, kv]
        out = lean.attention(q_BhND, *zip(*groups, strict=True))
        return lean.linear(self.to_out[0], out.transpose(1, 2).flatten(-2))

    def _turned(self, x_BND: Tensor, norm: nn.RMSNorm, rope: Table | None) -> Tensor:
        """Normed across all heads, and turned by its position where there is one."""
        if rope is not None and lean.serves(x_BND):
            return self._heads(lean.turned(x_BND, norm, rope), None)
        return self._heads(_normed(x_BND, norm), rope)

    def _heads(self, x_BND: Tensor, rope: Table | None) -> Tensor:
        x = x_BND.unflatten(-1, (self.heads, -1))
        return (apply_rope(x, rope) if rope is not None else x).transpose(1, 2)


class FeedForward(nn.Module):
    """Linear, GELU(tanh), linear; module names are those of the released checkpoints."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        first = nn.Module()
        first.proj = nn.Linear(width, hidden)
        self.net = nn.ModuleList([first, nn.Identity(), nn.Linear(hidden, width)])

    def forward(self, x: Tensor) -> Tensor:
        return lean.linear(self.net[2], lean.linear(self.net[0].proj, x, gelu=True))


class Block(nn.Module):
    """Modulated self-attention, cross-attention to the text, modulated feed-forward."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.eps = config.eps
        self.guidance_cross_attn = config.guidance_cross_attn
        self.scale_shift_table = nn.Parameter(torch.zeros(1, 6, config.width))
        self.attn1 = Attention(config, amplify_history=config.is_amplify_history)
        self.ffn = FeedForward(config.width, config.ffn_dim)
        if config.text_dim:
            self.attn2 = Attention(config)
            self.norm2 = nn.LayerNorm(config.width, eps=config.eps)

    def forward(
        self,
        x_BND: Tensor,
        modulation: Sequence[Modulation],
        rope: Table,
        past: KeysValues | None = None,
        text_BLD: Tensor | None = None,
        noisy: int = 0,
        keys_alone: bool = False,
    ) -> tuple[Tensor, KeysValues]:
        """Args:
            modulation: of all tokens, one after another.
            past: keys and values of tokens that are attended to and not changed here.
            text_BLD: text tokens.
            noisy: how many tokens, counted from the end, are of the noisy chunk; those before them are history.
            keys_alone: nobody asks what becomes of the tokens, which are given back as they were.
        Returns:
            the tokens, and their keys and values.
        """
        table = self.scale_shift_table[:, None].float()
        vectors = [(table + rows.float()).unbind(2) for rows, _ in modulation]  # per run, six of (B, R, D)
        lengths = [tokens for _, tokens in modulation]
        change = partial(modulate, eps=self.eps)
        u = _each_run(change, lengths, (x_BND,), [v[0:2] for v in vectors])
        kv = self.attn1.keys_values(u, rope, x_BND.shape[1] - noisy)
        if keys_alone:
            return x_BND, kv
        update = self.attn1.attend(self.attn1.queries(u, rope), kv, past)
        x_BND = _each_run(gated, lengths, (x_BND, update), [v[2:3] for v in vectors])
        if text_BLD is not None:
            x_BND = self._read_text(x_BND, text_BLD, noisy if self.guidance_cross_attn else x_BND.shape[1])
        update = self.ffn(_each_run(change, lengths, (x_BND,), [v[3:5] for v in vectors]))
        return _each_run(gated, lengths, (x_BND, update), [v[5:6] for v in vectors]), kv

    def _read_text(self, x_BND: Tensor, text_BLD: Tensor, readers: int) -> Tensor:
        """Guidance cross-attention leaves history out, lest text pile up in it over the chunks."""
        past, x = x_BND.split((x_BND.shape[1] - readers, readers), dim=1)
        normed = F.layer_norm(x.float(), x.shape[-1:], self.norm2.weight.float(), self.norm2.bias.float(), self.eps)
        q = self.attn2.queries(normed.to(x.dtype), None)
        return torch.cat([past, x + self.attn2.attend(q, self.attn2.keys_values(text_BLD, None))], dim=1)


def modulate(x_BND: Tensor, shift_BRD: Tensor, scale_BRD: Tensor, *, eps: float) -> Tensor:
    """LayerNorm without weights in float32, then scale and shift; the result has the dtype of x."""
    if scale_BRD.shape[:2] == (1, 1) and lean.serves(x_BND):
        return lean.modulate(x_BND, shift_BRD[0, 0], scale_BRD[0, 0], eps)
    normed = _shares(F.layer_norm(x_BND.float(), x_BND.shape[-1:], eps=eps), scale_BRD)
    return torch.addcmul(shift_BRD[:, :, None], normed, 1 + scale_BRD[:, :, None]).flatten(1, 2).to(x_BND.dtype)


def gated(x_BND: Tensor, update_BND: Tensor, gate_BRD: Tensor) -> Tensor:
    """x + update * gate in float32; the result has the dtype of x."""
    x, update = (_shares(part.float(), gate_BRD) for part in (x_BND, update_BND))
    return torch.addcmul(x, update, gate_BRD[:, :, None]).flatten(1, 2).to(x_BND.dtype)


def _shares(x_BND: Tensor, rows_BRD: Tensor) -> Tensor:
    """Tokens by the row that rules them: (B, R, N/R, D)."""
    return x_BND.unflatten(1, (rows_BRD.shape[1], -1))


def _each_run(
    change: Callable[..., Tensor],
    lengths: Sequence[int],
    tensors: Sequence[Tensor],
    vectors: Sequence[Sequence[Tensor]],
) -> Tensor:
    """`change` of each run of tokens with the vectors of that run, put together again."""
    if len(lengths) == 1:
        return change(*tensors, *vectors[0])
    runs = zip(*(tensor.split(lengths, dim=1) for tensor in tensors), strict=True)
    return torch.cat([change(*run, *own) for run, own in zip(runs, vectors, strict=True)], dim=1)


def _normed(x_BND: Tensor, norm: nn.RMSNorm) -> Tensor:
    """RMSNorm in float32; the result has the dtype of x."""
    return F.rms_norm(x_BND.float(), norm.normalized_shape, norm.weight.float(), norm.eps).to(x_BND.dtype)
