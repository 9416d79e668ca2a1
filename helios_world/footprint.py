"""Whether a transformer fits: the memory that it needs, on the device and on the host, against what is free."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from helios_world.config import TransformerConfig
from helios_world.errors import UserError
from helios_world.model.dit import VideoDiT, weight_dtype

WORK = 5 << 30  # bytes that denoising and decoding a released chunk take on a GPU beside the weights
GIB = 2**30


class Footprint(NamedTuple):
    """Bytes of weights."""

    device: int
    host: int


def footprint(config: TransformerConfig, dtype: torch.dtype, *, offload: bool) -> Footprint:
    """Of the weights. With `offload` all blocks are on the host and two of them on the device."""
    with torch.device("meta"):
        model = VideoDiT(config)
    sizes = {name: p.numel() * weight_dtype(name, dtype).itemsize for name, p in model.named_parameters()}
    if not offload:
        return Footprint(sum(sizes.values()), 0)
    blocks = sum(size for name, size in sizes.items() if name.startswith("blocks."))
    return Footprint(sum(sizes.values()) - blocks + 2 * blocks // config.num_layers, blocks)


def check_room(config: TransformerConfig, dtype: torch.dtype, device: torch.device, *, offload: bool) -> None:
    """UserError naming what is needed and what is free, unless the transformer fits."""
    needed = footprint(config, dtype, offload=offload)
    if device.type == "cpu":
        _check("the transformer", needed.device + needed.host, _free_on_host(), "host memory", "")
        return
    advice = ""
    if not offload:
        streamed = footprint(config, dtype, offload=True)
        advice = f": with --offload it needs {_gib(streamed.device + WORK)} there and {_gib(streamed.host)} on the host"
    free = torch.cuda.mem_get_info(device)[0]
    _check("the transformer", needed.device + WORK, free, f"memory on {device}", advice)
    _check("--offload", needed.host, _free_on_host(), "host memory", "")


def _check(what: str, needed: int, free: int | None, where: str, advice: str) -> None:
    if free is not None and needed > free:
        raise UserError(f"{what} needs {_gib(needed)} of {where}: {_gib(free)} are free{advice}")


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def _free_on_host(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes that can be had without swapping, as Linux says; None on other systems."""
    if not meminfo.is_file():
        return None
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024
