"""How alike two pictures are (PSNR, SSIM), two sets of them (the Frechet distance of their features), two headings.

Shapes: ... any leading axes, H W picture size; n pictures, F features.
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


def frechet(made_nF: np.ndarray, real_nF: np.ndarray) -> float:
    """|m - r|^2 + tr(M + R - 2 (M R)^(1/2)), of means m, r and covariances M, R (arXiv 1706.08500, equation 6).

    Fewer pictures give more: compare what is of equally many.
    """
    (m, M), (r, R) = (_gaussian(features.astype(np.float64)) for features in (made_nF, real_nF))
    values, vectors = np.linalg.eigh(M)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    both = np.linalg.eigvalsh(root @ R @ root)  # those of M R, by a matrix that is symmetric
    return float(np.square(m - r).sum() + np.trace(M) + np.trace(R) - 2 * np.sqrt(np.maximum(both, 0)).sum())


def turned(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Degrees between two headings, 0 to 180."""
    return np.abs((one - other + 180) % 360 - 180)


def _gaussian(features_nF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (F,) and covariance (F, F)."""
    centred = features_nF - features_nF.mean(axis=0)
    return features_nF.mean(axis=0), centred.T @ centred / max(1, len(centred) - 1)


def _local(x: np.ndarray) -> np.ndarray:
    """Means over all windows that lie within (..., H, W)."""
    for axis in (-2, -1):
        total = np.concatenate([np.zeros_like(x.take([0], axis)), x.cumsum(axis)], axis)
        size = total.shape[axis]
        x = (total.take(range(WINDOW, size), axis) - total.take(range(size - WINDOW), axis)) / WINDOW
    return x
