"""Stages that need an autoencoder, as data: how each trains where its options do not say otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """Defaults of a stage.

    Attributes:
        muon_rate, rate: learning rates of Muon and AdamW.
        warmup: turns until the rates are full.
        hold: share of the run at full rate.
        ema: of the averaged weights.
        rollout_batch: contexts of the network's own per iteration.
        rollout: chunks that it plays on, on average.
    """

    muon_rate: float
    rate: float
    warmup: int
    hold: float
    ema: float
    rollout_batch: int
    rollout: float


STAGES = {
    # Long rollouts under squared error teach to fade to the mean.
    "base": Stage(1.2e-3, 6e-4, 200, 0.3, 0.998, 64, 2.0),
    "ode": Stage(2e-4, 1e-4, 50, 0.5, 0.99, 0, 1.0),
    "distil": Stage(1e-4, 5e-5, 50, 0.5, 0.99, 128, 20.0),
    "outcome": Stage(0.0, 1e-3, 100, 0.3, 0.998, 0, 1.0),
}
