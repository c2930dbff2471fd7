"""A Kalman filter with constant velocity and the Rauch-Tung-Striebel smoother, for many tracks at once.

x and y of a track share their covariance, so one 2 x 2 matrix per track and row does for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_superanimal.smoothing.findings import Floats


#: Candidates for the ratio of the motion's noise to the measurement's, in px per frame^2 over px.
RATIOS = np.array([0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0])
#: Rows that the ratio is chosen on; more change nothing and take time.
ROWS = 2000


@dataclass(frozen=True)
class Filtered:
    """Forward pass: states (T, N, 2, 2) [position or velocity, x or y], covariances (T, N, 3) as pp, pv, vv."""

    state: Floats
    cov: Floats
    predicted: Floats
    predicted_cov: Floats
    fit: Floats


def rts(xy: Floats, weight: Floats, ratio: Floats | None = None) -> tuple[Floats, Floats]:
    """Smoothed positions, and the ratio (N,) used.

    Parameters
    ----------
    xy : (T, N, 2) px, NaN where missing
    weight : (T, N)
        How much a measurement counts, 0..1: its variance is divided by the weight's square.
    ratio : (N,), optional
        Noise of the motion over noise of the measurement. By default the one of `RATIOS` under which the
        track is most likely (the measurement's own noise is estimated along with it).

    Returns
    -------
    (T, N, 2), NaN where `xy` is, and (N,)
    """
    if ratio is None:
        ratio = choose_ratio(xy, weight)
    forward = _forward(xy, weight, ratio)
    state = forward.state[-1]
    out = np.full(xy.shape, np.nan)
    out[-1] = state[:, 0]
    for t in range(len(xy) - 2, -1, -1):
        pp, pv, vv = forward.cov[t].T
        qpp, qpv, qvv = forward.predicted_cov[t + 1].T
        det = qpp * qvv - qpv * qpv
        # gain = P F' inv(P predicted), F = [[1, 1], [0, 1]]
        a, b, c = pp + pv, pv, pv + vv
        g00, g01 = (a * qvv - b * qpv) / det, (b * qpp - a * qpv) / det
        g10, g11 = (c * qvv - vv * qpv) / det, (vv * qpp - c * qpv) / det
        gap = state - forward.predicted[t + 1]
        smooth = forward.state[t].copy()
        smooth[:, 0] += g00[:, None] * gap[:, 0] + g01[:, None] * gap[:, 1]
        smooth[:, 1] += g10[:, None] * gap[:, 0] + g11[:, None] * gap[:, 1]
        state = smooth
        out[t] = state[:, 0]
    out[~np.isfinite(xy).all(-1)] = np.nan
    return out, ratio


def choose_ratio(xy: Floats, weight: Floats) -> Floats:
    """The ratio (N,) of `RATIOS` under which each track's middle part is most likely."""
    start = max((len(xy) - ROWS) // 2, 0)
    part, sure = xy[start : start + ROWS], weight[start : start + ROWS]
    n = xy.shape[1]
    fits = _forward(
        np.tile(part, (1, len(RATIOS), 1)), np.tile(sure, (1, len(RATIOS))), np.repeat(RATIOS, n)
    ).fit.reshape(len(RATIOS), n)
    return RATIOS[fits.argmax(0)]


def _forward(xy: Floats, weight: Floats, ratio: Floats) -> Filtered:
    """Filter with measurement variance 1: scaling all variances leaves the estimates as they are."""
    steps, n = xy.shape[:2]
    q = np.square(ratio)
    state = np.zeros((n, 2, 2))
    pp, pv, vv = np.full(n, 1e6), np.zeros(n), np.full(n, 1e4)
    begun = np.zeros(n, bool)
    states, covs = np.zeros((steps, n, 2, 2)), np.zeros((steps, n, 3))
    guesses, guess_covs = np.zeros_like(states), np.zeros_like(covs)
    squares, logs, count = np.zeros(n), np.zeros(n), np.zeros(n)
    for t in range(steps):
        if t:
            state = state.copy()
            state[:, 0] += state[:, 1]
            # white acceleration over one row
            pp, pv, vv = pp + 2 * pv + vv + q / 3, pv + vv + q / 2, vv + q
        guesses[t] = state
        guess_covs[t] = np.stack([pp, pv, vv], -1)
        seen = np.isfinite(xy[t]).all(-1)
        first = seen & ~begun
        state[first, 0] = xy[t, first]
        begun |= seen
        noise = 1.0 / np.square(np.clip(np.nan_to_num(weight[t], nan=0.1), 0.1, 1.0))
        total = pp + noise
        off = np.where(seen[:, None], xy[t] - state[:, 0], 0.0)
        known = seen & ~first
        squares += np.where(known, np.square(off).sum(-1) / total, 0.0)
        logs += np.where(known, 2 * np.log(total), 0.0)
        count += 2.0 * known
        gp, gv = np.where(seen, pp / total, 0.0), np.where(seen, pv / total, 0.0)
        state = state.copy()
        state[:, 0] += gp[:, None] * off
        state[:, 1] += gv[:, None] * off
        pp, pv, vv = (1 - gp) * pp, (1 - gp) * pv, vv - gv * pv
        states[t], covs[t] = state, np.stack([pp, pv, vv], -1)
    some = np.maximum(count, 1.0)
    # log likelihood with the measurement's variance at its best value
    fit = -0.5 * (some * np.log(np.maximum(squares / some, 1e-12)) + logs)
    return Filtered(states, covs, guesses, guess_covs, fit)
