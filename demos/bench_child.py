"""What measurements of the bridge share: frame sizes, a function in a process of its own, ages as figures."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

FPS = 24.0
SIZES = {"160x128": (128, 160), "640x384": (384, 640)}


@contextmanager
def process(target: Callable[..., None], *args: Any) -> Iterator[str]:
    """`target(*args, pipe)` in a process of its own; gives what it sends first."""
    child, said = spawn(target, *args)
    try:
        yield said
    finally:
        child.kill()
        child.join()


def spawn(target: Callable[..., None], *args: Any) -> tuple[Any, str]:
    """The process, and what it sent first."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    child = context.Process(target=target, args=(*args, far), daemon=True)
    child.start()
    return child, near.recv()


def percentiles(name: str, values: np.ndarray) -> dict[str, float]:
    """p50, p95 and p99, called `name`_p50 and so on."""
    return {f"{name}_p{q}": round(float(np.percentile(values, q)), 3) for q in (50, 95, 99)}
