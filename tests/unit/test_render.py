"""The renderer: its truth must be true, its pixels repeatable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_superanimal.demo.render import Clip, Style, random_style, render_clip
from napari_superanimal.keypoints import load_space

SPACE = load_space("superanimal_topviewmouse")


def of(clip: Clip, name: str) -> np.ndarray:
    """(T, A, 2) of one keypoint."""
    return clip.truth.xy[:, :, SPACE.index(name)]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(120, seed=4)


def test_shape_and_truth(clip):
    assert len(clip.frames) == len(clip.truth) == 120
    frame = clip.frames[7]
    assert frame.shape == (480, 640, 3)
    assert frame.dtype == np.uint8
    assert clip.truth.keypoints == SPACE.keypoints
    assert (clip.truth.visibility == 2).mean() > 0.98
    assert clip.truth.found.mean() > 0.98
    inside = clip.truth.xy[clip.truth.found]
    assert (inside >= -0.5).all()
    assert (inside <= [639.5, 479.5]).all()


def test_same_seed_same_pixels_in_any_order():
    one, two = render_clip(12, seed=9, n_mice=2), render_clip(12, seed=9, n_mice=2)
    late = two.frames[11]
    assert np.array_equal(one.frames[3], two.frames[3])
    assert np.array_equal(one.frames[11], late)
    assert np.array_equal(one.frames[-1], late)
    assert np.array_equal(one.truth.xy, two.truth.xy, equal_nan=True)
    assert not np.array_equal(one.frames[3], render_clip(12, seed=10, n_mice=2).frames[3])
    assert [f.shape for f in one.frames[2:5]] == [(480, 640, 3)] * 3
    with pytest.raises(IndexError):
        one.frames[12]


def test_keypoints_lie_on_the_animal():
    """Find the black animal in the pixels alone and compare."""
    pale = (210, 210, 210)
    bare = {
        "noise": 0,
        "shadow": 0,
        "reflection": 0,
        "exposure": 0,
        "blur": 0.3,
        "whiskers": False,
        "feet": False,
    }
    style = Style(floor="plain", floor_color=pale, wall_color=pale, surround=pale, **bare)
    clip = render_clip(200, seed=2, style=style)
    for t in range(0, 200, 10):
        dark = clip.frames[t].mean(-1) < 75
        y, x = np.nonzero(dark)
        body = np.stack([x, y], 1).astype(float)
        for name in ("mouse_center", "mid_back", "neck", "mid_backend", "head_midpoint"):
            column, row = np.round(of(clip, name)[t, 0]).astype(int)
            assert dark[row, column], name
        nose = of(clip, "nose")[t, 0]
        assert np.linalg.norm(body - nose, axis=1).min() < 4
        # nothing of the body lies beyond the nose
        ahead = nose - of(clip, "head_midpoint")[t, 0]
        ahead /= np.linalg.norm(ahead)
        near = body[np.linalg.norm(body - nose, axis=1) < 25]
        assert ((near - nose) @ ahead).max() < 4


def test_anatomy(clip):
    nose, tail = of(clip, "nose"), of(clip, "tail_base")
    left, right, head = of(clip, "left_ear"), of(clip, "right_ear"), of(clip, "head_midpoint")
    forward = nose - head
    # seen from above with y pointing down, what is on the animal's left has a negative cross product
    side = forward[..., 0] * (left - right)[..., 1] - forward[..., 1] * (left - right)[..., 0]
    assert (side < 0).all()
    middle = (left + right) / 2
    length = np.linalg.norm(nose - tail, axis=-1)
    assert (np.linalg.norm(middle - head, axis=-1) < 0.06 * length.max()).all()
    assert (np.linalg.norm(nose - head, axis=-1) < 0.35 * length.max()).all()
    box = clip.truth.boxes
    assert (box[..., 2:] > 20).all()
    assert ((nose >= box[..., :2]) & (nose <= box[..., :2] + box[..., 2:])).all()


def test_left_is_left_when_facing_up():
    """An animal that heads to the top of the picture has its left ear on the left."""
    clip = render_clip(400, seed=1)
    forward = of(clip, "nose") - of(clip, "head_midpoint")
    up = forward[..., 1] < -0.9 * np.linalg.norm(forward, axis=-1)
    assert up.any()
    assert (of(clip, "left_ear")[up][:, 0] < of(clip, "right_ear")[up][:, 0]).all()


def test_it_moves_pauses_and_turns():
    clip = render_clip(900, seed=0)
    center = of(clip, "mouse_center")[:, 0]
    step = np.linalg.norm(np.diff(center, axis=0), axis=1)
    assert (step < 0.6).mean() > 0.08
    assert np.percentile(step, 90) > 2
    assert step.max() < 40
    direction = of(clip, "neck")[:, 0] - of(clip, "tail_base")[:, 0]
    angle = np.unwrap(np.arctan2(direction[:, 1], direction[:, 0]))
    assert np.ptp(angle) > np.pi
    jump = np.linalg.norm(np.diff(clip.truth.xy[:, 0], axis=0), axis=-1)
    assert np.nanmax(jump) < 60  # the tail's end included


@pytest.mark.parametrize("arena", ["square", "round"])
def test_it_explores_the_arena(arena):
    """No animal gets stuck in a corner or at the wall."""
    for seed in range(4):
        center = of(render_clip(1200, (320, 240), seed=seed, style=Style(arena=arena)), "mouse_center")[:, 0]
        assert (np.ptp(center, axis=0) > 0.4 * np.array([240, 240])).all()
        longest, still = 0, 0
        for step in np.linalg.norm(center[15:] - center[:-15], axis=1):
            still = still + 1 if step < 3 else 0
            longest = max(longest, still)
        assert longest < 300  # ten seconds


def test_speed_does_not_depend_on_the_frame_rate():
    def pace(fps: float, count: int) -> float:
        center = of(render_clip(count, seed=3, fps=fps), "mouse_center")[:, 0]
        return float(np.median(np.linalg.norm(np.diff(center, axis=0), axis=1)) * fps)

    assert 0.4 < pace(15, 450) / pace(60, 1800) < 2.5


def test_two_mice_keep_mostly_apart():
    clip = render_clip(600, seed=6, n_mice=2)
    a, b = np.moveaxis(of(clip, "mouse_center"), 1, 0)
    length = np.linalg.norm(of(clip, "nose") - of(clip, "tail_base"), axis=-1).max()
    assert (np.linalg.norm(a - b, axis=-1) < 0.3 * length).mean() < 0.1
    assert clip.truth.individuals == ("animal0", "animal1")
    assert set(np.unique(clip.truth.visibility)) <= {0, 1, 2}
    covered = clip.truth.visibility == 1
    assert not covered[:, 1].any()  # the one painted last is never below


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    width=st.integers(96, 700),
    height=st.integers(96, 500),
    mice=st.integers(1, 3),
)
def test_every_style_shows_its_animal(seed, width, height, mice):
    style = random_style(np.random.default_rng(seed))
    clip = render_clip(2, (width, height), mice, seed, style)
    with_animal = clip.frames[1]
    assert with_animal.shape == (height, width, 3)
    if style.gray and not style.compression:
        assert np.ptp(with_animal, axis=-1).max() == 0
    # the animal is what differs from the empty arena
    empty = clip.frames._scenery.background.mean(-1)
    levels = clip.frames._levels
    plain = levels[np.clip(empty, 0, 255).astype(np.uint8)].astype(float)
    x, y = np.moveaxis(np.round(clip.truth.xy[1][:, SPACE.index("mouse_center")]).astype(int), -1, 0)
    seen = [with_animal[v - 1 : v + 2, u - 1 : u + 2].mean() for u, v in zip(x, y, strict=True)]
    ground = [plain[v - 1 : v + 2, u - 1 : u + 2].mean() for u, v in zip(x, y, strict=True)]
    assert np.abs(np.array(seen) - ground).max() > 8
    assert not clip.truth.human.any()


def test_styles_vary():
    rng = np.random.default_rng(0)
    styles = [random_style(rng) for _ in range(60)]
    assert {s.arena for s in styles} == {"square", "round"}
    assert {s.floor for s in styles} == {"plain", "stains", "bedding", "grid"}
    assert 0.2 < np.mean([s.gray for s in styles]) < 0.8
    tones = [sum(s.coat) / 3 for s in styles]
    assert min(tones) < 45
    assert max(tones) > 180


def test_bad_arguments():
    for arguments in (
        {"n_frames": 0},
        {"n_frames": 1, "n_mice": 0},
        {"n_frames": 1, "size": (8, 8)},
        {"n_frames": 1, "fps": 0},
    ):
        with pytest.raises(ValueError, match="positive"):
            render_clip(**arguments)


def test_a_frame_takes_milliseconds():
    from time import process_time

    clip = render_clip(20, style=replace(Style(), noise=3.0))
    _ = clip.frames[0]
    start = process_time()
    for _ in clip.frames:
        pass
    assert (process_time() - start) / 20 < 0.05
