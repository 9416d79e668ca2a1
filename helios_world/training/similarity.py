"""How alike two pictures are: PSNR and SSIM.

Shapes: ... any leading axes, H W picture size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WINDOW = 7  # pixels along each side of what SSIM looks at
LUMINANCE, STRUCTURE = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # C1 and C2 of the paper


def psnr(made: np.ndarray, real: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """10 log10(255^2 / MSE), the mean squared error over `axes`."""
    error = np.square(made.astype(np.float32) - real.astype(np.float32)).mean(axis=tuple(axes))
    return 10 * np.log10(255.0**2 / np.maximum(error, 1e-3))


def ssim(made: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Structural similarity of uint8 (..., H, W, 3), -1 to 1, per picture (Wang et al. 2004, equation 13).

    Of the mean of red, green and blue, over uniform windows of 7x7 pixels, with sample covariance (as scikit-image).
    """
    x, y = (picture.astype(np.float64).mean(axis=-1) for picture in (made, real))
    mean_x, mean_y = _local(x), _local(y)
    scale = WINDOW**2 / (WINDOW**2 - 1)
    var_x, var_y, both = (
        scale * (_local(a * b) - m * n)
        for a, b, m, n in ((x, x, mean_x, mean_x), (y, y, mean_y, mean_y), (x, y, mean_x, mean_y))
    )
    likeness = (2 * mean_x * mean_y + LUMINANCE) * (2 * both + STRUCTURE)
    likeness /= (mean_x**2 + mean_y**2 + LUMINANCE) * (var_x + var_y + STRUCTURE)
    return likeness.mean(axis=(-2, -1))


def _local(x: np.ndarray) -> np.ndarray:
    """Means over all windows that lie within (..., H, W)."""
    for axis in (-2, -1):
        total = np.concatenate([np.zeros_like(x.take([0], axis)), x.cumsum(axis)], axis)
        size = total.shape[axis]
        x = (total.take(range(WINDOW, size), axis) - total.take(range(size - WINDOW), axis)) / WINDOW
    return x
