"""What a stream measures of itself, as figures for people. No clock."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class StreamStats:
    """Figures of what was measured last; nan where nothing was yet.

    Attributes:
        shown_fps: new frames shown per second, over the last two seconds.
        chunk_ms: making one chunk, on the server.
        round_trip_ms: from asking for a chunk to having it.
        key_to_pixels_ms: from `hold` with changed buttons to the first frame that includes them.
        late_chunks: chunks that came after they were due, since the stream began.
    """

    shown_fps: float
    chunk_ms_p50: float
    chunk_ms_p95: float
    round_trip_ms_p50: float
    round_trip_ms_p95: float
    key_to_pixels_ms_p50: float
    key_to_pixels_ms_p95: float
    late_chunks: int


def percentiles(seconds: Iterable[float]) -> tuple[float, float]:
    """p50 and p95 in milliseconds; nan of nothing."""
    values = np.fromiter(seconds, float)
    if not len(values):
        return math.nan, math.nan
    middle, high = np.percentile(values, [50, 95]) * 1000
    return float(middle), float(high)
