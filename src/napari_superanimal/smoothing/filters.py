"""Filters over regularly spaced tracks with gaps. Missing stays missing.

Each takes values (T, N) with NaN where missing, one row per frame, and returns the same shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import savgol_filter

if TYPE_CHECKING:
    from napari_superanimal.smoothing.findings import Floats


def median(values: Floats, window: int) -> Floats:
    """Median of the `window` (odd) rows around each; missing ones do not count."""
    half = window // 2
    padded = np.pad(values, ((half, half), (0, 0)), constant_values=np.nan)
    windows = sliding_window_view(padded, window, axis=0)
    here = np.isfinite(values)
    out = np.full(values.shape, np.nan)
    # only where there is a value: a window without any would warn
    out[here] = np.nanmedian(windows[here], axis=-1)
    return out


def savgol(values: Floats, window: int, order: int) -> Floats:
    """Savitzky-Golay: a polynomial of `order` fitted to the `window` (odd) rows around each.

    Gaps of less than half a window are bridged by a straight line while filtering; longer ones separate
    what is filtered on its own. Pieces too short for the polynomial stay as they are.
    """
    out = values.copy()
    for n in range(values.shape[1]):
        rows = np.flatnonzero(np.isfinite(values[:, n]))
        for piece in np.split(rows, np.flatnonzero(np.diff(rows) > window // 2) + 1):
            if not len(piece):
                continue
            whole = np.arange(piece[0], piece[-1] + 1)
            size = min(window, len(whole) - (1 - len(whole) % 2))
            if size < order + 2:
                continue
            bridged = np.interp(whole, piece, values[piece, n])
            out[piece, n] = savgol_filter(bridged, size, order, mode="interp")[piece - piece[0]]
    return out


def one_euro(xy: Floats, fps: float, size: float, min_cutoff: float, beta: float) -> Floats:
    """One-Euro filter (Casiez, Roussel & Vogel, CHI 2012), run forwards and backwards and averaged.

    The cutoff is ``min_cutoff + beta * speed``; running both ways takes away the delay that it has live.

    Parameters
    ----------
    xy : (T, N, 2) px
    fps : float
        Rows per second.
    size : float
        px of a body: speed counts in bodies per second, so that settings suit every resolution.
    min_cutoff, beta : float
        Hz, and Hz per body per second.
    """
    there = _one_euro_pass(xy, fps, size, min_cutoff, beta)
    back = _one_euro_pass(xy[::-1], fps, size, min_cutoff, beta)[::-1]
    return 0.5 * (there + back)


def _one_euro_pass(xy: Floats, fps: float, size: float, min_cutoff: float, beta: float) -> Floats:
    out = np.full(xy.shape, np.nan)
    last = np.full(xy.shape[1:], np.nan)
    velocity = np.zeros(xy.shape[1:])
    since = np.ones(xy.shape[1])
    for t in range(len(xy)):
        seen = np.isfinite(xy[t]).all(-1)
        fresh = seen & ~np.isfinite(last).all(-1)
        last[fresh], velocity[fresh], since[fresh] = xy[t, fresh], 0.0, 1.0
        dt = (since / fps)[:, None]
        raw = np.where(seen[:, None], (xy[t] - last) / dt, 0.0)
        # the derivative's own cutoff is 1 Hz, as in the paper
        blend = np.where(seen[:, None], _alpha(1.0, dt), 0.0)
        velocity += blend * (raw - velocity)
        speed = np.linalg.norm(velocity, axis=-1, keepdims=True) / size
        step = _alpha(min_cutoff + beta * speed, dt)
        last = np.where(seen[:, None], step * xy[t] + (1 - step) * last, last)
        out[t, seen] = last[seen]
        since = np.where(seen, 1.0, since + 1)
    return out


def _alpha(cutoff: float | Floats, dt: Floats) -> Floats:
    rate = 2 * np.pi * cutoff * dt
    return rate / (rate + 1)
