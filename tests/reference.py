"""The independent implementation in diffusers, made small enough for tests: pipelines without text encoder and VAE."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import torch
from diffusers import (
    HeliosDMDScheduler,
    HeliosPipeline,
    HeliosPyramidPipeline,
    HeliosScheduler,
    HeliosTransformer3DModel,
)

from helios_world.clip import chunk_frames
from helios_world.config import HELIOS_BASE_SAMPLER, HELIOS_DISTILLED_SAMPLER, HELIOS_MID_SAMPLER, SamplerConfig
from helios_world.model.memory import frame_indices, split_memory
from helios_world.sampling.guidance import VelocityFn
from helios_world.sampling.history import Past
from helios_world.sampling.pyramid import NoiseFn, block_noise

PIPELINE_HABITS = {"integer_timesteps": True, "shift_before_upsampling": True}  # of the pyramid pipeline alone
SAMPLERS = {
    "base": HELIOS_BASE_SAMPLER,
    "mid": replace(HELIOS_MID_SAMPLER, **PIPELINE_HABITS),
    "distilled": replace(HELIOS_DISTILLED_SAMPLER, **PIPELINE_HABITS),
}
TINY_TRANSFORMER = {
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "rope_dim": (4, 4, 4),
    "in_channels": 4,
    "out_channels": 4,
    "ffn_dim": 32,
    "text_dim": 8,
    "freq_dim": 16,
}
HISTORY_SIZES = (16, 2, 1)
SCALE = 8  # pixels per latent


class NoDecoder(torch.nn.Module):
    """Stands where the VAE does: latents are what is compared."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, channels: int):
        super().__init__()
        normal = {"z_dim": channels, "latents_mean": [0.0] * channels, "latents_std": [1.0] * channels}
        self.config = SimpleNamespace(scale_factor_temporal=4, scale_factor_spatial=SCALE, **normal)

    def decode(self, latents, return_dict=False):
        return (latents.new_zeros(len(latents), 3, 1, 1, 1),)


def tiny_transformer(seed: int = 0, **config) -> HeliosTransformer3DModel:
    """diffusers' transformer with random weights, small; `config` overrides TINY_TRANSFORMER."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return HeliosTransformer3DModel(**{**TINY_TRANSFORMER, **config}).eval().requires_grad_(False)


def scheduler(kind: str):
    """The scheduler of a released model: kind is base, mid or distilled."""
    if kind == "base":
        return HeliosScheduler(stages=1, stage_range=[0, 1], use_dynamic_shifting=True, time_shift_type="exponential")
    if kind == "mid":
        return HeliosScheduler(stages=3, use_dynamic_shifting=True, time_shift_type="exponential")
    return HeliosDMDScheduler(stages=3, use_dynamic_shifting=True, time_shift_type="linear")


def tiny_pipeline(kind: str, *, seed: int = 0, **config) -> HeliosPipeline | HeliosPyramidPipeline:
    """The pipeline of a released model around a tiny transformer: kind is base, mid or distilled."""
    transformer = tiny_transformer(seed, **config)
    parts = (None, None, NoDecoder(transformer.config.in_channels), scheduler(kind), transformer)
    if kind == "base":
        pipeline = HeliosPipeline(*parts)
    else:
        pipeline = HeliosPyramidPipeline(*parts, is_cfg_zero_star=kind == "mid", is_distilled=kind == "distilled")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def recorded_noise(pipeline, noise_of: Callable[[int], NoiseFn]) -> None:
    """Makes a pipeline draw the noise of chunk k from `noise_of(k)`, as `sample_chunk` does. Lasts for one call.

    Its own block noise cannot be used: it needs the Cholesky factor of a singular matrix, which the CPU refuses.
    The noise of an image or a video to start from stays the pipeline's own, from its `generator`.
    """
    chunk = draw = -1

    def prepare_latents(batch, channels, height, width, frames, **_):
        nonlocal chunk, draw
        chunk, draw = chunk + 1, 0
        return noise_of(chunk)((batch, channels, (frames - 1) // 4 + 1, height // SCALE, width // SCALE), draw)

    def sample_block_noise(batch, channels, frames, height, width, *_):
        nonlocal draw
        draw += 1
        noise = noise_of(chunk)((batch, channels, frames, height, width), draw)
        return block_noise(noise, pipeline.scheduler.config.gamma)

    pipeline.prepare_latents, pipeline.sample_block_noise = prepare_latents, sample_block_noise


def run_pipeline(
    pipeline,
    sampler: SamplerConfig,
    prompt_BLD: torch.Tensor,
    negative_BLD: torch.Tensor | None,
    *,
    size: tuple[int, int],
    chunk: int = 9,
    chunks: int = 1,
    **start,
) -> torch.Tensor:
    """Latents (B, C, chunks * chunk, H, W) that the pipeline makes; those to start from do not come back.

    Args:
        size: height and width of the latents. Where the coarsest level is one token wide, mid refuses (`view`).
        chunk: latent frames per chunk.
        start: `image_latents` with `fake_image_latents` or `video_latents`, and `generator`.
    """
    steps = {"num_inference_steps": sampler.steps[0]}
    if isinstance(pipeline, HeliosPyramidPipeline):
        steps = {
            "pyramid_num_inference_steps_list": list(sampler.steps),
            "is_amplify_first_chunk": sampler.amplify_first_chunk,
            "zero_steps": sampler.zero_steps - 1,
        }
    latents = pipeline(
        prompt_embeds=prompt_BLD,
        negative_prompt_embeds=negative_BLD,
        height=size[0] * SCALE,
        width=size[1] * SCALE,
        num_frames=chunks * chunk_frames(chunk),
        num_latent_frames_per_chunk=chunk,
        history_sizes=list(HISTORY_SIZES),
        guidance_scale=sampler.guidance_scale,
        output_type="latent",
        **steps,
        **start,
    ).frames
    return latents[:, :, -chunks * chunk :]


def reference_velocity(transformer, past: Past, prompt_BLD: torch.Tensor, *, chunk: int) -> VelocityFn:
    """diffusers' transformer as what `sample_chunk` asks for: the velocity after this past, for this prompt."""
    memory = split_memory(past.history_BCTHW, past.anchor_BC1HW, HISTORY_SIZES)
    indices = frame_indices(HISTORY_SIZES, chunk)
    conditions = {f"latents_history_{name}": getattr(memory, name) for name in ("long", "mid", "short")}
    for name in ("long", "mid", "short"):
        conditions[f"indices_latents_history_{name}"] = torch.tensor([getattr(indices, name)])

    def velocity(z, timestep):
        t = torch.full((len(z),), timestep)
        noisy = torch.tensor([indices.noisy])
        with torch.no_grad():
            return transformer(z, t, prompt_BLD, indices_hidden_states=noisy, return_dict=False, **conditions)[0]

    return velocity
