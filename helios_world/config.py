"""Sizes of the networks and of the sampler, and the presets that have names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from helios_world.errors import UserError, check_name


class Config:
    """What all configs share: reading from and writing to JSON, with unknown keys refused."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        names = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise UserError(f"{cls.__name__} has no {', '.join(unknown)}: it has {', '.join(sorted(names))}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

    def to_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


POSITIONS = ("relative", "absolute")


@dataclass(frozen=True)
class TransformerConfig(Config):
    """Names and defaults are those of the released 14B config; `history_sizes` and the last seven are ours.

    Attributes:
        patch_size: latents in a token of the noisy chunk, along time, height and width.
        history_patch_size: latents in a token of the short memory; one of the mid memory covers twice as many along
            each axis, of the long memory four times. None: as `patch_size`. Positions count these patches.
        history_sizes: recent latent frames kept by the long, mid and short memory; the anchor comes on top of short.
            Any of them may be 0, not all.
        text_dim: width of the text embedding; 0 leaves out text and cross-attention.
        guidance_cross_attn: noisy tokens alone see the text.
        zero_history_timestep: history is modulated as clean, not by the noise level of the chunk.
        is_amplify_history: the keys of history are scaled by a learnt factor from 1 to 10.
        history_scale_mode: one such factor "per_head", or a "scalar" for all.
        restrict_self_attn: history attends to itself only, so that its keys and values serve every denoise step.
        action_dim: numbers per latent frame that tell which buttons were held; 0 leaves out actions.
        scene_dim: scenes that the network tells apart, by numbers that follow those of the buttons; 0 for one scene.
        align_levels: lower pyramid levels use the positions of the full-size tokens they cover (the release does not).
        anchor: history begins with the anchor; without it, the network sees recent frames alone.
        positions: of the anchor in time: "relative", right before the oldest memory, whatever its age; "absolute", as
            long before the chunk as it is old.
    """

    num_layers: int = 40
    num_attention_heads: int = 40
    attention_head_dim: int = 128
    ffn_dim: int = 13824
    in_channels: int = 16
    out_channels: int = 16
    patch_size: tuple[int, int, int] = (1, 2, 2)
    history_sizes: tuple[int, int, int] = (16, 2, 1)
    text_dim: int = 4096
    freq_dim: int = 256
    rope_dim: tuple[int, int, int] = (44, 42, 42)
    rope_theta: float = 10000.0
    eps: float = 1e-6
    guidance_cross_attn: bool = True
    zero_history_timestep: bool = True
    is_amplify_history: bool = False
    history_scale_mode: str = "per_head"
    restrict_self_attn: bool = False
    action_dim: int = 0
    scene_dim: int = 0
    align_levels: bool = False
    anchor: bool = True
    positions: str = "relative"
    history_patch_size: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if len(self.history_sizes) != 3 or min(self.history_sizes) < 0 or not any(self.history_sizes):
            raise UserError(f"history_sizes {self.history_sizes}: must be three numbers from 0 up, not all of them 0")
        if sum(self.rope_dim) != self.attention_head_dim:
            raise UserError(f"rope_dim {self.rope_dim} must add up to attention_head_dim {self.attention_head_dim}")
        check_name("history_scale_mode", self.history_scale_mode, ("per_head", "scalar"))
        check_name("positions", self.positions, POSITIONS)
        whole = all(coarse % fine == 0 for coarse, fine in zip(self.short_patch, self.patch_size, strict=True))
        if not whole or self.short_patch[0] != self.patch_size[0]:
            raise UserError(
                f"history_patch_size {self.short_patch}: must be as long in time as patch_size {self.patch_size}, and"
                " whole multiples of its height and width"
            )
        for name in ("guidance_cross_attn", "zero_history_timestep"):
            if self.restrict_self_attn and not getattr(self, name):
                raise UserError(f"{name} is false: must be true where restrict_self_attn is true")

    @property
    def short_patch(self) -> tuple[int, int, int]:
        """Latents in a token of the short memory."""
        return self.history_patch_size or self.patch_size

    @property
    def fineness(self) -> tuple[int, int]:
        """Tokens of a noisy chunk in one of the short memory, along height and width."""
        return self.short_patch[1] // self.patch_size[1], self.short_patch[2] // self.patch_size[2]

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim


@dataclass(frozen=True)
class AutoencoderConfig(Config):
    """Sizes of `model.vae.VideoVAE`.

    Attributes:
        frames: RGB frames that one latent frame holds.
        widths: channels at 1/2, 1/4 and 1/8 of the frame size.
        depths: residual blocks at each of these sizes.
    """

    frames: int = 4
    latent_channels: int = 16
    widths: tuple[int, int, int] = (64, 128, 256)
    encoder_depths: tuple[int, int, int] = (1, 2, 2)
    decoder_depths: tuple[int, int, int] = (2, 3, 3)

    @property
    def scale(self) -> int:
        """Pixels per latent, along height and along width."""
        return 8


@dataclass(frozen=True)
class OutcomeConfig(Config):
    """Sizes of `model.outcome.OutcomeNetwork`.

    Attributes:
        frames: newest latent frames that it looks at.
        recalled: latent frames before those, of which each cell is seen by itself.
        action_dim, scene_dim: numbers that tell which buttons were held, and the scene, as in `TransformerConfig`.
        widths: channels at the size of the latents and at half of it.
    """

    frames: int = 3
    recalled: int = 0
    latent_channels: int = 16
    action_dim: int = 28
    scene_dim: int = 0
    widths: tuple[int, int] = (64, 96)

    @property
    def window(self) -> int:
        """Newest latent frames that it takes."""
        return self.recalled + self.frames


@dataclass(frozen=True)
class ProbeConfig(Config):
    """Sizes of `model.probe.Probe`, and what it was taught.

    Attributes:
        scenes: that it tells apart, in their order.
        places: for each scene the mean of x and y and their deviations, in map units: four numbers after another.
        frames: of a chunk; it sees the one before as well.
        buttons: that it tells for each frame.
        height, width: of a frame.
        widths: channels at 1/2, 1/4, 1/8 and 1/16 of the frame size.
        shifts: pixels of half-size frames, to the left and to the right, by which one is compared with the next.
        squeezed: channels of what is flattened.
        features: numbers that all it tells is read from.
    """

    scenes: tuple[str, ...]
    places: tuple[float, ...]
    frames: int = 4
    buttons: int = 7
    height: int = 128
    width: int = 160
    widths: tuple[int, int, int, int] = (40, 64, 96, 128)
    shifts: int = 10
    squeezed: int = 8
    hidden: int = 192
    features: int = 64

    def __post_init__(self) -> None:
        if not self.scenes or len(self.places) != 4 * len(self.scenes):
            raise UserError(f"{len(self.places)} places for scenes {self.scenes}: must be four numbers for each scene")


SOLVERS = ("euler", "unipc", "dmd")
SHIFTS = (None, "linear", "exponential")


@dataclass(frozen=True)
class SamplerConfig(Config):
    """How a chunk is sampled.

    Attributes:
        steps: denoise steps at each pyramid level, coarse to fine; their number is the number of levels.
        gamma: correlation of the noise added between levels (Helios: 1/3).
        solver: "euler"; "unipc", of second order; "dmd", which re-noises with the level's own start.
        shift: "linear" or "exponential" moves the steps by the number of tokens (dynamic shift); None leaves them.
        shift_before_upsampling: count the tokens of the level before, as the public pipelines do. Training counts
            those of the level itself.
        guidance_scale: of classifier-free guidance; up to 1 there is none, and no unconditional branch is run.
        cfg_zero: the unconditional branch is scaled to fit the conditional one first (CFG-Zero*).
        zero_steps: with `cfg_zero`, so many steps at the coarsest level take a velocity of 0 (zero-init). The public
            pipelines count from 0: their `zero_steps=1` is 2 here.
        amplify_first_chunk: twice the steps in a world's first chunk.
        integer_timesteps: tell the network whole time steps, as the public pyramid pipelines do. Training tells
            fractions.
        contrast: 0 to 1, the least contrast that the past is shown with, beside the anchor's: see
            `drift.raise_contrast`. Of worlds with networks of their own.
    """

    steps: tuple[int, ...] = (1, 1)
    gamma: float = 1 / 3
    solver: str = "euler"
    shift: str | None = None
    shift_before_upsampling: bool = False
    guidance_scale: float = 1.0
    cfg_zero: bool = False
    zero_steps: int = 2
    amplify_first_chunk: bool = False
    integer_timesteps: bool = False
    contrast: float = 0.0

    def __post_init__(self) -> None:
        check_name("solver", self.solver, SOLVERS)
        if not 0 <= self.contrast <= 1:
            raise UserError(f"contrast is {self.contrast:g}: must be 0 to 1")
        if self.shift not in SHIFTS:
            raise UserError(f"unknown shift {self.shift!r}: choose from {', '.join(map(str, SHIFTS))}")
        if not self.steps or min(self.steps) < 1:
            raise UserError(f"steps {self.steps} must be one number per pyramid level, each at least 1")

    @property
    def guided(self) -> bool:
        """Whether an unconditional branch is run."""
        return self.guidance_scale > 1


HELIOS_14B = TransformerConfig()
DOOM = TransformerConfig(
    num_layers=8,
    num_attention_heads=6,
    history_sizes=(4, 14, 1),  # what mid memory holds is hardly coarser than the latents; long memory is
    attention_head_dim=64,
    ffn_dim=1536,
    text_dim=0,
    rope_dim=(16, 24, 24),
    rope_theta=1000.0,
    restrict_self_attn=True,
    action_dim=28,
    align_levels=True,
)
# fmt: off
HELIOS_BASE_SAMPLER      = SamplerConfig((50,),   solver="unipc", shift="exponential", guidance_scale=5.)
HELIOS_MID_SAMPLER       = SamplerConfig((20,)*3, solver="unipc", shift="exponential", guidance_scale=5., cfg_zero=True)
HELIOS_DISTILLED_SAMPLER = SamplerConfig((2,)*3,  solver="dmd",   shift="linear",      amplify_first_chunk=True)
# fmt: on
DOOM_FINE = replace(DOOM, patch_size=(1, 1, 1), history_patch_size=(1, 2, 2))  # four times the tokens in a chunk
TINY = replace(
    DOOM_FINE, num_layers=2, num_attention_heads=2, attention_head_dim=16, ffn_dim=64, rope_dim=(4, 6, 6)
)  # for tests
DOOM_AUTOENCODER = AutoencoderConfig()
TINY_AUTOENCODER = AutoencoderConfig(widths=(8, 8, 16), encoder_depths=(1, 1, 1), decoder_depths=(1, 1, 1))
PRESETS = {
    "doom": (DOOM, DOOM_AUTOENCODER),
    "doom-fine": (DOOM_FINE, DOOM_AUTOENCODER),
    "tiny": (TINY, TINY_AUTOENCODER),
}
PROBE_SIZES = {"doom": {}, "doom-fine": {}, "tiny": {"widths": (8, 8, 8, 8), "hidden": 16}}  # of the presets
