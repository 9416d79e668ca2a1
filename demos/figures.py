"""The figures of the panel (F3) as words: what was measured of stream, keys and picture."""

from __future__ import annotations

import math
from collections.abc import Iterable

from helios_world.bridge.stats import StreamStats, percentiles
from helios_world.drift import Drift


def figures(stats: StreamStats, keys: Iterable[float], drift: Drift | None) -> tuple[tuple[str, str], ...]:
    """(label, value) rows.

    Args:
        keys: seconds from key to pixels, as the window measured them.
        drift: of the picture from the first one; None before that.
    """
    return (
        ("shown", f"{stats.shown_fps:.1f} fps"),
        ("chunk", _spread(stats.chunk_ms_p50, stats.chunk_ms_p95)),
        ("round trip", _spread(stats.round_trip_ms_p50, stats.round_trip_ms_p95)),
        ("key to pixels", _spread(*percentiles(keys))),
        ("late chunks", str(stats.late_chunks)),
        ("drift", "-" if drift is None else _words(drift)),
    )


def _words(drift: Drift) -> str:
    return f"colour {drift.colour:.0f}, contrast {drift.contrast:.2f}, sharpness {drift.sharpness:.2f}"


def _spread(middle: float, high: float) -> str:
    """Milliseconds; nothing was measured yet where they are nan."""
    return "-" if math.isnan(middle) else f"{middle:.0f} ms, p95 {high:.0f}"
