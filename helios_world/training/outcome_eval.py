"""How well chances of reward and end tell what came in real games that training never saw, played to their ends.

Shapes: n chunks, C latent channels, N latent frames, h w latent size.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from helios_world.generator import Generator
from helios_world.model.outcome import EVENTS
from helios_world.training.calibration import score
from helios_world.training.cases import came_of
from helios_world.training.collect import PLAYERS, Row, play
from helios_world.training.game import Game
from helios_world.world import WorldState

MOST_FRAMES = 10_000_000  # of all games together
AT_ONCE = 256  # frames that are encoded together


def outcome_figures(generator: Generator, scene: str, games: int, seed: int) -> dict[str, Any]:
    """Figures by event, of all chunks of `games` games of a scene; nothing where there is no outcome network."""
    if generator.outcome is None:
        return {}
    judged = [judge(generator, scene, game) for game in whole_games(scene, games, seed)]
    chances, came = (np.concatenate(parts) for parts in zip(*judged, strict=True))
    figures = {event: score(chances[:, i], came[:, i]) for i, event in enumerate(EVENTS)}
    return {**figures, "chunks": len(came), "games": games}


def whole_games(scene: str, count: int, seed: int) -> Iterator[Row]:
    """Games, each as one row of arrays. Their seed is (seed, "outc"); training draws its own from (seed, worker)."""
    sequence = np.random.SeedSequence((seed, 0x6F757463))
    game = Game(scene, int(sequence.generate_state(1)[0]))
    rows = play(game, PLAYERS[scene](np.random.default_rng(sequence)), MOST_FRAMES)
    for _, of_game in islice(groupby(rows, key=lambda row: row.episodes), count):
        yield Row(*(np.stack(parts) for parts in zip(*of_game, strict=True)))
    game.close()


def judge(generator: Generator, scene: str, game: Row) -> tuple[np.ndarray, np.ndarray]:
    """Chances (n, 2) of the chunks of a game, one after another, and whether each event came, bool (n, 2)."""
    chunk, whole = generator.card.frames_per_chunk, len(game.frames)
    whole -= whole % chunk
    ends = torch.arange(chunk - 1, whole, chunk)
    first = torch.zeros(len(game.frames), dtype=torch.long)
    came, known = came_of(torch.from_numpy(game.outcomes), first, ends, chunk)
    window = generator.outcome.config.window
    encoded = [generator.encode(part) for part in np.split(game.frames[:whole], range(AT_ONCE, whole, AT_ONCE))]
    latents = F.pad(torch.cat(encoded, dim=1), (0, 0, 0, 0, window - 1, 0))
    windows = latents.unfold(1, window, 1).permute(1, 0, 4, 2, 3)  # (n, C, N, h, w)
    states = [WorldState(None, None, scene, 0, 0)] * len(ends)
    chances = generator.chances(windows, generator.conditions(game.actions[:whole], states))
    return chances.cpu().numpy()[known], came[known].numpy()
