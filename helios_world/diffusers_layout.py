"""A checkpoint as a folder in the diffusers layout: which release it is, and its transformer by the released names.

Reading and writing need no diffusers, which reads what is written here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from helios_world.checkpoint import check_fit
from helios_world.config import (
    HELIOS_BASE_SAMPLER,
    HELIOS_DISTILLED_SAMPLER,
    HELIOS_MID_SAMPLER,
    SamplerConfig,
    TransformerConfig,
)
from helios_world.errors import PackError, UserError
from helios_world.model.dit import VideoDiT, initialise_actions, weight_dtype
from helios_world.snapshot import write_bytes

CLASS = "HeliosTransformer3DModel"
CONFIG, STEM = "config.json", "diffusion_pytorch_model"
WEIGHTS, INDEX = f"{STEM}.safetensors", f"{STEM}.safetensors.index.json"
ONLY = {  # flags of the released class that have one value here
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "added_kv_proj_dim": None,
    "has_multi_term_memory_patch": True,
}
# Settings that the released class lacks.
OURS = (
    "history_sizes",
    "restrict_self_attn",
    "action_dim",
    "scene_dim",
    "align_levels",
    "anchor",
    "positions",
    "history_patch_size",
)
OLD_NAMES = {"scale_shift_table": "norm_out.scale_shift_table"}
IGNORED = "norm_added_q"  # in names of tensors that older checkpoints hold and no version uses
ADAPTER = "condition_embedder.action_embedder."


MODEL_INDEX, SCHEDULER = "model_index.json", "scheduler/scheduler_config.json"
PIPELINES = ("HeliosPipeline", "HeliosPyramidPipeline")


class Stored(NamedTuple):
    """A tensor on disk."""

    path: Path
    name: str
    shape: tuple[int, ...]


def read_sampler(checkpoint: Path) -> SamplerConfig:
    """How the release in `checkpoint` samples: Helios-Base, -Mid or -Distilled, as its model_index.json says.

    Raises:
        PackError: not the folder of a Helios checkpoint, or one with a scheduler that is not known here.
    """
    if not (checkpoint / MODEL_INDEX).is_file():
        raise PackError(f"{checkpoint} is not a Helios checkpoint: it has no {MODEL_INDEX}")
    index = _read_json(checkpoint / MODEL_INDEX)
    kind = index.get("_class_name")
    if kind not in PIPELINES:
        raise PackError(f"{checkpoint} is not a Helios checkpoint: its pipeline is {kind!r}")
    sampler = HELIOS_BASE_SAMPLER
    if kind == "HeliosPyramidPipeline":
        sampler = HELIOS_DISTILLED_SAMPLER if index.get("is_distilled") else HELIOS_MID_SAMPLER
        sampler = replace(sampler, cfg_zero=bool(index.get("is_cfg_zero_star")))
    path = checkpoint / SCHEDULER
    found = _read_json(path)
    wanted = {"stages": len(sampler.steps), "time_shift_type": sampler.shift, "use_dynamic_shifting": True}
    for name, value in wanted.items():
        if found.get(name) != value:
            raise PackError(f"{path}: {name} is {json.dumps(found.get(name))}: must be {json.dumps(value)}")
    return replace(sampler, gamma=float(found.get("gamma", sampler.gamma)))


def read_config(folder: Path) -> TransformerConfig:
    """The sizes of the transformer in `folder`. PackError if it is no Helios transformer, or of a kind not known here.

    Settings that are not known are ignored, as their tensors would be refused, unless they switch something on.
    """
    path = folder / CONFIG
    values = _read_json(path)
    if values.get("_class_name") != CLASS:
        raise PackError(f"{path} is of class {values.get('_class_name')!r}: must be {CLASS!r}")
    known = {field.name for field in fields(TransformerConfig)}
    for name, value in values.items():
        if name in ONLY and value != ONLY[name]:
            raise PackError(f"{path}: {name} is {json.dumps(value)}: must be {json.dumps(ONLY[name])}")
        if name not in known | ONLY.keys() and value is True:
            raise PackError(f"{path}: {name} is true: this version does not know it, must be false")
    settings = {name: value for name, value in values.items() if name in known}
    if settings.get("out_channels", 0) is None:
        settings["out_channels"] = settings.get("in_channels", TransformerConfig.in_channels)
    try:
        return TransformerConfig.from_dict(settings)
    except (UserError, TypeError) as error:
        raise PackError(f"{path}: {error}") from None


def load_transformer(
    folder: Path, *, dtype: torch.dtype = torch.bfloat16, device: str = "cpu", action_dim: int | None = None
) -> VideoDiT:
    """The transformer in `folder`, computing in `dtype` on `device`.

    Each tensor is copied from the mapped file to its place on its own, so that the host never holds more than the
    weights once and one tensor: where they go to a GPU, that one alone.

    Args:
        action_dim: numbers that tell of actions per latent frame, instead of what config.json says. Only the action
            embedder (`condition_embedder.action_embedder.*`) may then be missing in `folder`: it starts at zero, and
            the output is the released one until it is trained.
    Raises:
        PackError: not a Helios transformer, a damaged file, or a tensor that is missing, extra or mis-shaped.
    """
    config = read_config(folder)
    if action_dim is not None:
        config = replace(config, action_dim=action_dim)
    with torch.device("meta"):
        model = VideoDiT(config)
    stored = _find_tensors(folder)
    weights = {}
    if config.action_dim and not any(name.startswith(ADAPTER) for name in stored):
        weights = _fresh_adapter(model, device)
    check_fit(folder, {name: tensor.shape for name, tensor in (*weights.items(), *stored.items())}, model)
    for name, tensor in stored.items():
        weights[name] = _read(tensor).to(device, weight_dtype(name, dtype), copy=True)
    model.load_state_dict(weights, assign=True)
    return model


def save_transformer(model: VideoDiT, folder: Path, *, max_shard_size: int = 10**10) -> None:
    """Writes `model` to `folder`, in several files where it is over `max_shard_size` bytes; older ones there go."""
    shards = list(_shards(model, max_shard_size))
    names = [f"{STEM}-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    if len(shards) == 1:
        names = [WEIGHTS]
    folder.mkdir(parents=True, exist_ok=True)
    for name, shard in zip(names, shards, strict=True):
        scratch = folder / f"{name}.part"
        save_file({k: v.detach().cpu().contiguous() for k, v in shard.items()}, scratch, metadata={"format": "pt"})
        scratch.replace(folder / name)
    if len(shards) > 1:
        size = sum(tensor.nbytes for shard in shards for tensor in shard.values())
        where = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        _write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": where})
    _write_json(folder / CONFIG, _released_settings(model.config))
    for old in folder.glob(f"{STEM}*.safetensors*"):
        if old.name not in names and not (old.name == INDEX and len(shards) > 1):
            old.unlink()


def _released_settings(config: TransformerConfig) -> dict[str, Any]:
    """config.json, with settings of ours only where they are not the released ones."""
    default = {field.name: field.default for field in fields(config) if field.default is not MISSING}
    usual = {name for name in OURS if getattr(config, name) == default[name]}
    settings = {name: value for name, value in config.to_dict().items() if name not in usual}
    return {"_class_name": CLASS, **settings, **ONLY}


def _shards(model: VideoDiT, max_shard_size: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if shard and sum(t.nbytes for t in shard.values()) + tensor.nbytes > max_shard_size:
            yield shard
            shard = {}
        shard[name] = tensor
    yield shard


def _find_tensors(folder: Path) -> dict[str, Stored]:
    """What the files of `folder` hold, by the names of this version."""
    files = [WEIGHTS]
    if (folder / INDEX).is_file():
        weight_map = _read_json(folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise PackError(f"{folder / INDEX} is damaged: it has no weight_map")
        files = sorted(set(weight_map.values()))
    found = {}
    for path in (folder / file for file in files):
        with _opened(path) as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                if IGNORED not in name:
                    stored = Stored(path, name, tuple(tensors.get_slice(name).get_shape()))
                    found[OLD_NAMES.get(name, name)] = stored
    return found


def _read(stored: Stored) -> Tensor:
    """The tensor, still in its file: the mapping is its own and ends with it, so that no other page stays in memory."""
    with _opened(stored.path) as tensors:
        return tensors.get_tensor(stored.name)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError:
        raise PackError(f"{path} is missing") from None
    except (SafetensorError, OSError) as error:
        raise PackError(f"{path} is damaged or not safetensors ({error})") from None


def _fresh_adapter(model: VideoDiT, device: str) -> dict[str, Tensor]:
    """Takes the action embedder of a model that is on meta to the host, at zero; returns its weights on `device`."""
    embedder = model.condition_embedder.action_embedder.to_empty(device="cpu")
    initialise_actions(model, torch.Generator().manual_seed(0))
    return {ADAPTER + name: tensor.to(device) for name, tensor in embedder.state_dict().items()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise PackError(f"{path.parent} is not a Helios transformer: it has no {path.name}") from None
    except ValueError as error:
        raise PackError(f"{path} is damaged ({error})") from None
    if not isinstance(values, dict):
        raise PackError(f"{path} is damaged: it holds no JSON object")
    return values


def _write_json(path: Path, values: dict[str, Any]) -> None:
    write_bytes(path, (json.dumps(values, indent=2, sort_keys=True) + "\n").encode())
