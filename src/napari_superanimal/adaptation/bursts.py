"""Which frames of a video are learned from, and which are kept for the proof."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from napari_superanimal.errors import UserError

#: Frames of one burst to learn from: enough to see what jumps, few enough to come from everywhere.
BURST = 12
#: Frames of one burst for the proof: second differences and filters need some length.
HELD_BURST = 24
#: Bursts for the proof at most.
HELD_BURSTS = 6
#: Frames on either side of a held-out burst that are not learned from: neighbours look alike.
GUARD = 4
#: Share of a short video that is held out.
HELD_SHARE = 0.3
#: Shorter videos cannot be split.
FEWEST = 40


@dataclass(frozen=True)
class Bursts:
    """Runs of neighbouring frames.

    Attributes
    ----------
    learn : tuple of range
        Frames to learn from.
    held : tuple of range
        Frames for the proof; at least `GUARD` away from every frame of `learn`.
    """

    learn: tuple[range, ...]
    held: tuple[range, ...]

    @property
    def frames(self) -> int:
        """Frames to learn from."""
        return sum(len(b) for b in self.learn)


def choose_bursts(
    total: int,
    *,
    learn_frames: int = 240,
    held_frames: int = HELD_BURST * HELD_BURSTS,
    seed: int = 0,
) -> Bursts:
    """Spread bursts over a video.

    The held-out ones depend on the video's length only, so that runs with different seeds are proved on the same
    frames; `seed` moves the others within their part of the video.

    Parameters
    ----------
    total : int
        Frames of the video.
    learn_frames, held_frames : int
        At most so many.

    Raises
    ------
    UserError
        If there are too few frames to learn from some and prove on others.
    """
    if total < FEWEST:
        raise UserError(
            f"{total} frames are too few to learn from some and prove it on others",
            remedy=f"give a video of at least {FEWEST} frames",
        )
    length = min(HELD_BURST, max(8, total // 20))
    count = max(1, min(held_frames // length, HELD_BURSTS, int(HELD_SHARE * total) // length))
    centres = (np.arange(count) + 0.5) * total / count
    starts = np.clip(np.round(centres - length / 2).astype(int), 0, total - length)
    held = [range(s, s + length) for s in starts]
    free = _free(total, starts, length)
    learn = _spread(free, learn_frames, np.random.default_rng((seed, total)))
    return Bursts(tuple(learn), tuple(held))


def _free(total: int, starts: np.ndarray, length: int) -> list[range]:
    """What lies between the held-out bursts and their guards."""
    free, at = [], 0
    for s in (*starts.tolist(), total + GUARD):
        stop = min(s - GUARD, total)
        if stop - at >= 5:
            free.append(range(at, stop))
        at = s + length + GUARD
    return free


def _spread(free: list[range], limit: int, rng: np.random.Generator) -> list[range]:
    """All of `free` cut into bursts, or as many bursts as the limit allows, evenly spread."""
    pieces = [range(a, min(a + BURST, f.stop)) for f in free for a in range(f.start, f.stop, BURST)]
    # a remainder of a few frames belongs to the burst before it
    joined: list[range] = []
    for p in pieces:
        if len(p) < 5 and joined and joined[-1].stop == p.start:
            joined[-1] = range(joined[-1].start, p.stop)
        else:
            joined.append(p)
    count = max(limit // BURST, 1)
    if len(joined) > count:
        edges = np.linspace(0, len(joined), count + 1)
        joined = [joined[int(rng.integers(int(a), max(int(b), int(a) + 1)))] for a, b in pairwise(edges)]
    if sum(map(len, joined)) <= limit:
        return joined
    # without what was joined to them, so many bursts are within the limit
    return [range(b.start, min(b.stop, b.start + BURST)) for b in joined]
