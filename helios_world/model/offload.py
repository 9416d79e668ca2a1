"""Blocks that live in host memory and visit the device one after another, for cards that cannot hold them all."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from helios_world.errors import UserError
from helios_world.model.attention import Block
from helios_world.model.dit import VideoDiT

ALIGNMENT = 256  # bytes, of each weight within the memory of its block
PAGE = 4096  # bytes; memory is pinned by whole pages, so blocks share none


class StreamedBlocks(nn.ModuleList):
    """The blocks of a model in host memory; iterating yields each in one of two places on the device.

    While one block computes, the next one is copied to the other place. Only for inference: a block that was yielded
    holds other weights two blocks later. Weights must not change, nor the module move, once it is made.
    """

    def __init__(self, blocks: nn.ModuleList, device: torch.device):
        """Takes `blocks` over: their weights move, block by block, to memory that the device can read by itself."""
        super().__init__(blocks)
        self._host = [_gathered(block) for block in blocks]
        self._visits = [copy.deepcopy(blocks[0]).requires_grad_(False) for _ in range(2)]
        self._places = [torch.empty_like(self._host[0], device=device) for _ in self._visits]
        for visit, place in zip(self._visits, self._places, strict=True):
            _scatter(visit, place)
        self._held: list[int | None] = [None, None]
        self._copies = None
        if device.type == "cuda":
            self._copies = torch.cuda.Stream(device)
            for place in self._places:
                place.record_stream(self._copies)
            _pin(self._host)
            weakref.finalize(self, _unpin, self._host)

    def __iter__(self) -> Iterator[Block]:
        assert not torch.is_grad_enabled(), "streamed weights are overwritten before a backward pass could read them"
        place = 1 if self._held[1] == 0 else 0
        self._fetch(0, place)
        for index in range(len(self)):
            if self._copies is not None:
                torch.cuda.current_stream().wait_stream(self._copies)  # this block has arrived
            self._fetch((index + 1) % len(self), 1 - place)
            yield self._visits[place]
            place = 1 - place

    def _fetch(self, index: int, place: int) -> None:
        """Starts to copy a block to a place, once all that was asked of the block there before is done."""
        if self._held[place] == index:
            return
        self._held[place] = index
        if self._copies is None:
            self._places[place].copy_(self._host[index])
            return
        self._copies.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._copies):
            self._places[place].copy_(self._host[index], non_blocking=True)


def stream_blocks(model: VideoDiT, device: str | torch.device) -> VideoDiT:
    """Moves `model` to `device`, but for its blocks, which from now on visit it two at a time."""
    blocks, model.blocks = model.blocks, nn.ModuleList()
    model.to(device)
    model.blocks = StreamedBlocks(blocks, torch.device(device))
    return model


def _gathered(block: nn.Module) -> Tensor:
    """One piece of memory (bytes) with all weights of a block, which are views of it from now on."""
    size = _rounded(sum(_rounded(weight.nbytes, ALIGNMENT) for weight in block.parameters()), PAGE)
    memory = torch.empty(size + PAGE, dtype=torch.uint8)
    memory = memory[-memory.data_ptr() % PAGE :][:size]
    _scatter(block, memory, keep=True)
    return memory


def _scatter(block: nn.Module, memory: Tensor, *, keep: bool = False) -> None:
    """Makes the weights of a block views of `memory`, in order; with `keep` they keep their values."""
    begin = 0
    for weight in block.parameters():
        view = memory[begin : begin + weight.nbytes].view(weight.dtype).view(weight.shape)
        if keep:
            view.copy_(weight.detach())
        weight.data = view
        begin += _rounded(weight.nbytes, ALIGNMENT)


def _rounded(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _pin(pieces: list[Tensor]) -> None:
    """Registers memory in place: the pinned memory of torch is rounded up to powers of two, half as much again here."""
    for piece in pieces:
        if int(torch.cuda.cudart().cudaHostRegister(piece.data_ptr(), piece.nbytes, 0)):
            needed = sum(piece.nbytes for piece in pieces) / 2**30
            raise UserError(f"streamed blocks need {needed:.1f} GiB of host memory that can be pinned: there is less")


def _unpin(pieces: list[Tensor]) -> None:
    for piece in pieces:
        torch.cuda.cudart().cudaHostUnregister(piece.data_ptr())
