"""Every training loss, with its equation.

Stages 1 and 2: flow matching at every level. Stage 3: a student of one or few steps a level learns from a teacher and
an adversarial critic (arXiv 2603.04379; distribution matching: arXiv 2405.14867).
Shapes: B batch, C latent channels, T frames, H W frame size, h w latent size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from helios_world.config import SamplerConfig
from helios_world.model.dit import HistoryContext, VideoDiT
from helios_world.model.memory import split_memory
from helios_world.model.outcome import OutcomeNetwork
from helios_world.model.vae import VideoVAE, from_bytes
from helios_world.sampling.pyramid import climb, halve, level_endpoints, sample_pyramid, true_end
from helios_world.sampling.schedule import LOCAL_SIGMA, Level, local_sigmas
from helios_world.sampling.solvers import euler
from helios_world.training.cases import Case
from helios_world.training.corruption import corrupt, drop_history
from helios_world.training.critic import Critic
from helios_world.training.data import Coded, Window
from helios_world.training.discriminator import Discriminator

KL_WEIGHT = 1e-4
KEPT_WEIGHT = 0.02  # of the distance to latents that are known already
GRADIENT_WEIGHT = 0.5
ADVERSARY_WEIGHT, LIKENESS_WEIGHT = 1.0, 0.25  # of a decoder's losses beside an error whose gradient is as large
START_SHARE = 0.5  # of draws at the very start of their level, where a one-step sampler evaluates the network
SIGMA_MEAN, SIGMA_DEVIATION = 0.4, 1.2  # of logit(sigma) for the other draws
LEAST_SIGMA, MOST_SIGMA = 0.02, 0.98  # local sigmas at which a student's work is judged
JUDGED_WEIGHT, CRITIC_WEIGHT, PENALTY_WEIGHT = 0.05, 0.01, 100.0  # of a student's adversarial loss, a critic's, its R1
MOST_WEIGHT = 10.0  # that a decoder's adversarial loss is scaled up by: a discriminator that knows little is not heeded
DOUBT = 0.02  # about what came of a chunk, so that logits stay small enough to be calibrated
PIXEL_PENALTY_WEIGHT = 0.001  # of a discriminator's R1
PENALTY_NOISE, PIXEL_NOISE = 0.1, 0.02  # of the approximate R1, on latents and on frames in -1..1
EARLY_BETA = (4.0, 1.5)  # of the Beta that sigmas of judgement come from at first: towards much noise


def autoencoder_loss(
    vae: VideoVAE, frames_BTHW3: Tensor, generator: torch.Generator, known: VideoVAE | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """|x - y| + 0.5 |dx - dy| + (x - y)^2 + 1e-4 KL, all means; d is the difference of neighbouring pixels.

    With `known`, an autoencoder that a transformer was trained on, + 0.02 |(m - m_known) / s_known|^2: latents, of mean
    m, keep their meaning.
    """
    x = from_bytes(frames_BTHW3, torch.float32)
    mean, log_variance = (part.float() for part in vae.posterior(x))
    noise = torch.randn(mean.shape, device=mean.device, generator=generator)
    y = vae.decode_raw(mean + (0.5 * log_variance).exp() * noise).float()
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    loss, figures = _picture_error(x, y) + KL_WEIGHT * kl, {"psnr_db": _psnr(x, y), "kl": kl.detach()}
    if known is None:
        return loss, figures
    with torch.no_grad():
        wanted = known.posterior(x)[0].float()
    moved = ((mean - wanted) / known.latent_std[None, :, None, None]).square().mean()
    return loss + KEPT_WEIGHT * moved, {**figures, "moved": moved.detach()}


def decoder_loss(
    vae: VideoVAE, discriminator: Discriminator, coded: Coded, *, adversary: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """error + a softplus(D(x) - D(y)) + 0.25 b mean |f(x) - f(y)|, f the features of D; error as in `autoencoder_loss`.

    Error and features are of the rows that are `near`; the others have only to look as real as their recorded chunks.
    a and b make the gradients by y as large as the error's (arXiv 2012.09841, equation 7, does so one layer earlier);
    a is at most 10.
    Of the autoencoder only the decoder gets gradients, so latents keep their meaning.
    """
    x, near = from_bytes(coded.frames, torch.float32), coded.near
    y = vae.decode_raw(coded.latents).float()
    error = _picture_error(x[near], y[near])
    figures = {"psnr_db": _psnr(x[near], y[near]), "gradient": _gradient(y).detach() / _gradient(x)}
    if not adversary:
        return error, figures
    with torch.no_grad():
        of_real, wanted = discriminator(x)
    logits, features = discriminator(y)
    fooled, pairs = F.softplus((of_real - logits).float()).mean(), zip(features, wanted, strict=True)
    likeness = torch.stack([F.l1_loss(f[near].float(), g[near].float()) for f, g in pairs]).mean()
    usual, *others = (torch.autograd.grad(part, y, retain_graph=True)[0].norm() for part in (error, fooled, likeness))
    a, b = (usual / (other + 1e-6) for other in others)
    a = a.clamp(max=MOST_WEIGHT)
    figures |= {"fooled": fooled.detach(), "likeness": likeness.detach(), "weight": a}
    return error + ADVERSARY_WEIGHT * a * fooled + LIKENESS_WEIGHT * b * likeness, figures


def discriminator_loss(
    vae: VideoVAE, discriminator: Discriminator, coded: Coded, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """softplus(D(y) - D(x)) + 0.001 R1 for real chunks x and the same ones decoded, y.

    Relativistic (arXiv 1807.00734): logits of a pair are compared with each other. Compared with zero instead, what
    tells pictures of one place from those of another hides what tells real from decoded, and D learns nothing.
    So it sees the rows alone that are `near`.
    R1 is approximate: ((D(x) - D(x + s noise)) / s)^2 with s = 0.02, little enough to leave texture to be judged.
    """
    x = from_bytes(coded.frames[coded.near], torch.float32)
    with torch.no_grad():
        y = vae.decode_raw(coded.latents[coded.near]).float()
    shaken = x + PIXEL_NOISE * torch.randn(x.shape, device=x.device, generator=generator)
    logits, _ = discriminator(torch.cat([x, y, shaken]))
    of_real, of_made, of_shaken = logits.float().chunk(3)
    versus, penalty, figures = _tell_apart(of_real, of_made, of_shaken, noise=PIXEL_NOISE)
    return versus + PIXEL_PENALTY_WEIGHT * penalty, figures


def pyramid_flow_loss(
    model: VideoDiT,
    window: Window,
    levels: Sequence[Level],
    draws: Sequence[int],
    generator: torch.Generator,
    *,
    corruption: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """`flow_loss` after a history that is corrupted like a generated one. It is encoded once, for all draws."""
    window = spoil_past(window, generator, corruption=corruption)
    return flow_loss(model, remember(model, window), window, levels, draws, generator)


def spoil_past(window: Window, generator: torch.Generator, *, corruption: bool = True) -> Window:
    """The window with its history partly dropped, and history and anchor corrupted per frame, unless told not to."""
    past = torch.cat([window.anchor.float(), drop_history(window.history.float(), generator)], dim=2)
    past = corrupt(past, generator) if corruption else past
    return window._replace(history=past[:, :, 1:], anchor=past[:, :, :1])


def remember(model: VideoDiT, window: Window) -> HistoryContext:
    """The past of a window as `model` encodes it."""
    return model.encode_history(split_memory(window.history, window.anchor, model.config.history_sizes, window.age))


def flow_loss(
    model: VideoDiT,
    context: HistoryContext,
    window: Window,
    levels: Sequence[Level],
    draws: Sequence[int],
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Flow matching at every level of the pyramid: w |v(z_sigma) - (start - end)|^2, the mean over levels.

    `draws[s]` noise draws of level s share the context. w is the window's weight, averaged over what a cell covers.
    """
    errors = []
    for index, (level, count) in enumerate(zip(levels, draws, strict=True)):
        clean = window.clean.float().repeat_interleave(count, dim=0)
        noise = torch.randn(clean.shape, device=clean.device, generator=generator)
        start, end = level_endpoints(clean, noise, levels, index)
        sigma = draw_sigmas(len(clean), clean.device, generator)
        z = torch.lerp(end, start, _as_rows(sigma))
        velocity = model(z, level.timestep(sigma), context, window.actions.repeat_interleave(count, dim=0))
        weight = window.weight.repeat_interleave(count, dim=0)
        errors.append(_weighted_error(velocity.float(), start - end, weight))
    return torch.stack(errors).mean(), {f"level_{s}": error.detach() for s, error in enumerate(errors)}


def rollout_loss(
    model: VideoDiT, window: Window, levels: Sequence[Level], generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Flow matching on what playing computes: w |v(z) - (z - end) / LOCAL_SIGMA|^2, the mean over levels.

    One Euler step a level, each level starting from what the one before made, not from the truth; with the true
    velocity every step lands on the true end of its level. w as in `flow_loss`.

    Returns:
        loss, figures, and the chunk that was made, (B, C, 1, h, w), without gradients.
    """
    context = remember(model, window)
    clean, errors = window.clean.float(), []

    def velocity(z: Tensor, timestep: float) -> Tensor:
        index = len(errors)
        made = model(z, torch.full((len(z),), timestep, device=z.device), context, window.actions)
        wanted = (z - true_end(z, clean, levels, index)) / LOCAL_SIGMA
        errors.append(_weighted_error(made.float(), wanted, window.weight))
        return made.detach()

    noise, shape = _fresh_noise(window, generator), tuple(clean.shape)
    chunk = sample_pyramid(velocity, noise, shape, levels, [1] * len(levels), SamplerConfig().gamma)
    return torch.stack(errors).mean(), {f"rollout_{s}": error.detach() for s, error in enumerate(errors)}, chunk


def ode_loss(
    student: VideoDiT,
    teacher: VideoDiT,
    window: Window,
    levels: Sequence[Level],
    steps: int,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """w |(start - LOCAL_SIGMA v_student(start)) - end|^2, the mean over levels: one step where the teacher takes
    `steps`.

    start and end are the teacher's own, of one chunk from noise to clean (ODE initialisation); w as in `flow_loss`.
    """
    with torch.no_grad():
        known = remember(teacher, window)
    context, errors = remember(student, window), []

    def solve(start: Tensor, level: Level, count: int) -> Tensor:
        sigmas = local_sigmas(count)
        with torch.no_grad():
            end = euler(lambda z, i: _velocity(teacher, z, level, sigmas[i], known, window), start, sigmas)
        made = start - LOCAL_SIGMA * _velocity(student, start, level, LOCAL_SIGMA, context, window)
        errors.append(_weighted_error(made, end, window.weight))
        return end

    shape = tuple(window.clean.shape)
    climb(solve, _fresh_noise(window, generator), shape, levels, [steps] * len(levels), SamplerConfig().gamma)
    return torch.stack(errors).mean(), {f"ode_{s}": error.detach() for s, error in enumerate(errors)}


def student_chunk(
    student: VideoDiT, window: Window, levels: Sequence[Level], steps: Sequence[int], generator: torch.Generator
) -> Tensor:
    """A chunk (B, C, 1, h, w) as playing makes it, with gradients (staged backward simulation).

    Each level is left after a step drawn from its `steps`; gradients flow through that step alone, and through all
    levels. Between steps the level's own start is its noise again (DMD).
    """
    context = remember(student, window)

    def solve(start: Tensor, level: Level, count: int) -> Tensor:
        last = int(torch.randint(count, (1,), device=start.device, generator=generator))
        z = start
        for step, sigma in enumerate(local_sigmas(count)[: last + 1]):
            with torch.set_grad_enabled(torch.is_grad_enabled() and step == last):
                end = z - sigma * _velocity(student, z, level, sigma, context, window)
            following = local_sigmas(count)[step + 1]
            z = (1 - following) * end + following * start
        return end

    return climb(
        solve, _fresh_noise(window, generator), tuple(window.clean.shape), levels, steps, SamplerConfig().gamma
    )


def distribution_matching_loss(
    chunk_BC1hw: Tensor,
    real: VideoDiT,
    fake: VideoDiT,
    window: Window,
    levels: Sequence[Level],
    draws: int,
    progress: float,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """0.5 w |x - sg(x - g)|^2 with g = (end_fake - end_real) / mean|end - end_real|, the mean over levels.

    end_real and end_fake are where the frozen teacher and the critic's score, which knows what the student makes, take
    a re-noised x: the student is moved from what it makes too often to what it makes too seldom. w is the window's
    weight, as in `flow_loss`.

    Args:
        draws: of noise, whose mean g is; they share the contexts, which are most of the work.
        progress: of the stage; early on x gets much noise (dynamic re-noising).
    """
    errors, figures, x = [], {}, chunk_BC1hw
    with torch.no_grad():
        contexts = [remember(model, window) for model in (fake, real)]
        chunks = chunk_BC1hw.detach().repeat_interleave(draws, dim=0)
        drawn = window._replace(actions=window.actions.repeat_interleave(draws, dim=0))
    for index in reversed(range(len(levels))):
        with torch.no_grad():
            sigma = _judged_sigmas(len(chunks), x.device, progress, generator)
            judged = _renoise(chunks, levels, index, sigma, generator)
            end_fake, end_real = (
                judged.z - _as_rows(sigma) * _velocity(model, judged.z, levels[index], sigma, context, drawn)
                for model, context in zip((fake, real), contexts, strict=True)
            )
            scale = (judged.end - end_real).abs().mean(dim=(1, 2, 3, 4), keepdim=True)
            gradient = torch.nan_to_num((end_fake - end_real) / scale).unflatten(0, (-1, draws)).mean(dim=1)
        errors.append(0.5 * _weighted_error(x, x.detach() - gradient, window.weight))
        figures[f"match_{index}"] = gradient.abs().mean()
        x = halve(x)
    return torch.stack(errors).mean(), figures


def critic_loss(
    critic: Critic,
    chunk_BC1hw: Tensor,
    window: Window,
    levels: Sequence[Level],
    generator: torch.Generator,
    *,
    draws: int,
    recorded: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Flow matching on what the student makes, + 0.01 (softplus(D(made) - D(real)) + 100 R1).

    R1 is approximate: (D(real) - D(real + 0.1 noise))^2. D judges re-noised full-size chunks after the same past;
    relativistic, as in `discriminator_loss`.

    Args:
        draws: of noise for each level, as in `flow_loss`.
        recorded: the first so many rows have a recorded past. D sees no others: where the student has long played on
            by itself, what does not follow from the past would be the real chunk. With 0 there is no D.
    """
    context = remember(critic.score, window)
    students = window._replace(clean=chunk_BC1hw.detach())
    flow, figures = flow_loss(critic.score, context, students, levels, [draws] * len(levels), generator)
    if not recorded:
        return flow, figures
    context, window, chunk = _first(context, recorded), window.first(recorded), chunk_BC1hw[:recorded].detach()
    last = len(levels) - 1
    sigma = _judged_sigmas(recorded, chunk.device, 1.0, generator)
    made = _renoise(chunk, levels, last, sigma, generator).z
    real = _renoise(window.clean.float(), levels, last, sigma, generator).z
    shaken = real + PENALTY_NOISE * torch.randn(real.shape, device=real.device, generator=generator)
    logits = critic.judge(
        torch.stack([made, real, shaken], dim=1).flatten(0, 1),
        levels[last].timestep(sigma).repeat_interleave(3),
        context,
        window.actions.repeat_interleave(3, dim=0),
    )
    of_made, of_real, of_shaken = logits.unflatten(0, (recorded, 3)).unbind(1)
    versus, penalty, told = _tell_apart(of_real, of_made, of_shaken)
    return flow + CRITIC_WEIGHT * (versus + PENALTY_WEIGHT * penalty), figures | told


def judged_loss(
    critic: Critic, chunk_BC1hw: Tensor, window: Window, levels: Sequence[Level], generator: torch.Generator
) -> Tensor:
    """0.05 softplus(D(real) - D(made)): what the critic takes for more real than the real costs the student little."""
    last = len(levels) - 1
    sigma = _judged_sigmas(len(chunk_BC1hw), chunk_BC1hw.device, 1.0, generator)
    timestep = levels[last].timestep(sigma)
    made, real = (_renoise(x, levels, last, sigma, generator).z for x in (chunk_BC1hw, window.clean.float()))
    with torch.no_grad():
        context = remember(critic.score, window)
        of_real = critic.judge(real, timestep, context, window.actions)
    of_made = critic.judge(made, timestep, context, window.actions)
    return JUDGED_WEIGHT * F.softplus(of_real - of_made).mean()


def regression_loss(chunk_BC1hw: Tensor, window: Window, near_B: Tensor) -> Tensor:
    """w |x - real chunk|^2, the mean over rows that are `near`: keeps a student near the truth where its past still
    tells what comes (DMD 1, arXiv 2311.18828). w is the window's weight."""
    errors = (window.weight * (chunk_BC1hw - window.clean.float()).square()).mean(dim=(1, 2, 3, 4))
    return (errors * near_B).sum() / near_B.sum()


def outcome_loss(network: OutcomeNetwork, case: Case) -> tuple[Tensor, dict[str, Tensor]]:
    """-y log p - (1 - y) log(1 - p), the mean over rows: y is 0.99 if the row's event came, else 0.01; p is the sigmoid
    of its logit - offset.
    """
    logits = network(case.latents.float(), case.actions).float().gather(1, case.event[:, None])[:, 0] - case.offset
    told = ((logits > 0) == (case.came > 0)).float().mean()
    return F.binary_cross_entropy_with_logits(logits, (1 - DOUBT) * case.came + DOUBT / 2), {"told": told}


def _tell_apart(
    of_real: Tensor, of_made: Tensor, of_shaken: Tensor, *, noise: float = 1.0
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """softplus(D(made) - D(real)), ((D(real) - D(shaken)) / noise)^2, and both as figures, with how often real is told
    from made."""
    versus = F.softplus(of_made - of_real).mean()
    penalty = F.mse_loss(of_real, of_shaken) / noise**2
    told = (of_real > of_made).float().mean()
    return versus, penalty, {"versus": versus.detach(), "penalty": penalty.detach(), "told": told}


def _weighted_error(found: Tensor, wanted: Tensor, weight_B11hw: Tensor) -> Tensor:
    """The mean of w |found - wanted|^2, w averaged over the cells that each of theirs covers."""
    while weight_B11hw.shape[-1] > found.shape[-1]:
        weight_B11hw = halve(weight_B11hw)
    return (weight_B11hw * (found - wanted).square()).mean()


class Renoised(NamedTuple):
    """A clean chunk on its way from a level's start to its end."""

    z: Tensor
    end: Tensor


def _renoise(
    clean: Tensor, levels: Sequence[Level], index: int, sigma_B: Tensor, generator: torch.Generator
) -> Renoised:
    noise = torch.randn(clean.shape, device=clean.device, generator=generator)
    start, end = level_endpoints(clean, noise, levels, index)
    return Renoised(torch.lerp(end, start, _as_rows(sigma_B)), end)


def _judged_sigmas(count: int, device: torch.device, progress: float, generator: torch.Generator) -> Tensor:
    """Local sigmas (count,) from a Beta that goes from EARLY_BETA to uniform over the first fifth of the stage."""
    early = 0.5 * (1 + math.cos(math.pi * min(5 * progress, 1.0)))
    a, b = (1 + (end - 1) * early for end in EARLY_BETA)
    one, other = (_gamma(shape, count, device, generator) for shape in (a, b))
    return LEAST_SIGMA + (MOST_SIGMA - LEAST_SIGMA) * one / (one + other)


def _gamma(shape: float, count: int, device: torch.device, generator: torch.Generator) -> Tensor:
    return torch._standard_gamma(torch.full((count,), shape, device=device), generator=generator)


def _velocity(
    model: VideoDiT, z: Tensor, level: Level, sigma: float | Tensor, context: HistoryContext, window: Window
) -> Tensor:
    """Float32 velocity at local sigma(s) of a level."""
    timestep = level.timestep(sigma)
    if not isinstance(timestep, Tensor):
        timestep = torch.full((len(z),), timestep, device=z.device)
    return model(z, timestep, context, window.actions).float()


def _fresh_noise(window: Window, generator: torch.Generator) -> Callable[[tuple[int, ...], int], Tensor]:
    device = window.clean.device
    return lambda shape, draw: torch.randn(shape, device=device, generator=generator)


def _first(context: HistoryContext, rows: int) -> HistoryContext:
    return context._replace(layers=tuple((keys[:rows], values[:rows]) for keys, values in context.layers))


def _as_rows(sigma_B: Tensor) -> Tensor:
    return sigma_B[:, None, None, None, None]


def draw_sigmas(count: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """Local sigmas (count,): a share at the start of the level, the rest logit-normal."""
    logits = SIGMA_MEAN + SIGMA_DEVIATION * torch.randn(count, device=device, generator=generator)
    at_start = torch.rand(count, device=device, generator=generator) < START_SHARE
    return torch.where(at_start, LOCAL_SIGMA, logits.sigmoid() * LOCAL_SIGMA)


def _picture_error(x_BTHW3: Tensor, y_BTHW3: Tensor) -> Tensor:
    differences = sum(F.l1_loss(y_BTHW3.diff(dim=axis), x_BTHW3.diff(dim=axis)) for axis in (2, 3))
    return F.l1_loss(y_BTHW3, x_BTHW3) + GRADIENT_WEIGHT * differences + F.mse_loss(y_BTHW3, x_BTHW3)


def _psnr(x: Tensor, y: Tensor) -> Tensor:
    return -10 * torch.log10(F.mse_loss(y.detach(), x) / 4)


def _gradient(x_BTHW3: Tensor) -> Tensor:
    """Mean absolute horizontal difference: sharpness."""
    return x_BTHW3.diff(dim=3).abs().mean()
