"""Keypoint matching on made-up animals, where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_superanimal.keypoints import KeypointSpace
from napari_superanimal.keypoints.matching import Matching, Observations, match_keypoints
from napari_superanimal.keypoints.matching_sides import sides_of_names

SPACE = KeypointSpace(
    name="beast",
    keypoints=("nose", "left_eye", "right_eye", "neck", "left_paw", "right_paw", "tail"),
    pairs=(("left_eye", "right_eye"), ("left_paw", "right_paw")),
    front=("nose",),
    rear=("tail",),
)
#: Where the keypoints are on an animal of size 1, seen from above, heading right (y points down).
BODY = np.array([[1.0, 0], [0.8, -0.15], [0.8, 0.15], [0.5, 0], [0.3, -0.3], [0.3, 0.3], [-0.4, 0]])
SIZE = 80.0


def herd(n: int = 30, noise: float = 0.02, seed: int = 0, sure: float = 0.9) -> Observations:
    """`n` animals turned every way, labelled exactly and predicted with some noise."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    turn = np.stack(
        [np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], -2
    )
    xy = SIZE * np.einsum("nij,kj->nki", turn, BODY) + rng.uniform(100, 400, (n, 1, 2))
    return Observations(
        labels=xy,
        predictions=xy + rng.normal(0, noise * SIZE, xy.shape),
        likelihood=np.full(xy.shape[:2], sure),
        size=np.full(n, SIZE),
        facing=np.zeros(n, np.int8),
    )


def match(seen: Observations, names: tuple[str, ...] | None = None) -> Matching:
    names = names or tuple(f"p{i}" for i in range(seen.labels.shape[1]))
    return match_keypoints(seen, names, SPACE, SPACE.keypoints)


@settings(max_examples=25)
@given(st.permutations(range(7)), st.integers(0, 99))
def test_the_order_of_the_labels_does_not_matter(order: list[int], seed: int) -> None:
    seen = herd(12, seed=seed)
    found = match(replace(seen, labels=seen.labels[:, order]))
    assert [m.target for m in found.matches] == [SPACE.keypoints[i] for i in order]
    assert all(m.accepted and m.margin > 0.5 and m.distance < 0.06 for m in found.matches)
    assert found.table().rows == tuple((f"p{i}", SPACE.keypoints[k]) for i, k in enumerate(order))
    assert not found.warnings


@settings(max_examples=25)
@given(st.floats(0.2, 20), st.floats(-500, 500))
def test_where_and_how_large_the_animals_are_does_not_matter(scale: float, shift: float) -> None:
    seen = herd(8)
    moved = replace(
        seen,
        labels=scale * seen.labels + shift,
        predictions=scale * seen.predictions + shift,
        size=scale * seen.size,
    )
    one, two = match(seen), match(moved)
    assert [m.target for m in one.matches] == [m.target for m in two.matches]
    np.testing.assert_allclose(one.scores, two.scores, atol=1e-6)


def test_a_keypoint_that_the_model_lacks_has_no_match() -> None:
    seen = herd()
    # between neck and tail, where the model knows nothing; and one in the corner of the picture
    belly = (seen.labels[:, 3] + seen.labels[:, 6]) / 2
    labels = np.concatenate([seen.labels, belly[:, None], np.zeros((len(seen), 1, 2))], 1)
    found = match(replace(seen, labels=labels))
    assert [m.target for m in found.matches[:7]] == list(SPACE.keypoints)
    assert not found.matches[7].accepted
    assert not found.matches[8].accepted
    assert len(found.table().rows) == 7


def test_its_neighbour_does_not_take_a_keypoint_that_is_not_labelled() -> None:
    """Without the neck's label, a label between neck and tail still has no match."""
    seen = herd()
    labels = seen.labels.copy()
    labels[:, 3] = 0.5 * (seen.labels[:, 3] + seen.labels[:, 6])
    assert not match(replace(seen, labels=labels)).matches[3].accepted


def test_unlabelled_points_take_no_part() -> None:
    seen = herd(40)
    labels = seen.labels.copy()
    labels[3:, 0] = np.nan
    labels[:, 6] = np.nan
    found = match(replace(seen, labels=labels))
    assert [m.target for m in found.matches[:6]] == list(SPACE.keypoints[:6])
    assert found.matches[0].images == 3
    assert found.matches[6].reason == "never labelled"
    assert found.table().target("p6") is None


def test_a_keypoint_that_the_model_does_not_know_is_no_candidate() -> None:
    seen = herd()
    predictions = seen.predictions.copy()
    predictions[:, 3] = np.nan
    known = tuple(k for k in SPACE.keypoints if k != "neck")
    names = tuple(f"p{i}" for i in range(7))
    found = match_keypoints(replace(seen, predictions=predictions), names, SPACE, known)
    assert "neck" not in found.candidates
    assert not found.matches[3].accepted
    assert len(found.table().rows) == 6


def test_a_few_wild_predictions_do_not_decide() -> None:
    seen = herd(40)
    rng = np.random.default_rng(1)
    predictions, sure = seen.predictions.copy(), seen.likelihood.copy()
    predictions[:15] = predictions[:15][:, rng.permutation(7)]
    sure[:15] = 0.2
    found = match(replace(seen, predictions=predictions, likelihood=sure))
    assert [m.target for m in found.matches] == list(SPACE.keypoints)
    assert all(m.accepted for m in found.matches)


def test_a_model_that_sees_nothing_matches_nothing() -> None:
    seen = herd(40)
    rng = np.random.default_rng(2)
    astray = seen.predictions[:, :1] + rng.uniform(-SIZE, SIZE, seen.predictions.shape)
    assert not any(m.accepted for m in match(replace(seen, predictions=astray)).matches)
    nothing = replace(seen, predictions=np.full_like(seen.predictions, np.nan))
    assert not any(m.accepted for m in match(nothing).matches)


def test_one_doubtful_animal_is_too_little() -> None:
    seen = herd(1, sure=0.5)
    found = match(seen)
    assert not any(m.accepted for m in found.matches)
    assert "too few animals" in found.matches[0].reason


def test_no_animal_at_all() -> None:
    seen = herd(3)
    empty = Observations(
        *(getattr(seen, f)[:0] for f in ("labels", "predictions", "likelihood", "size", "facing"))
    )
    assert [m.reason for m in match(empty).matches] == ["never labelled"] * 7


def test_names_that_contradict_the_picture_are_told() -> None:
    seen = herd()
    names = ("nose", "eye_right", "eye_left", "neck", "leftpaw", "rightpaw", "tail")
    found = match(seen, names)
    assert [m.target for m in found.matches] == list(SPACE.keypoints)
    (warning,) = found.warnings
    assert "eye_right, eye_left" in warning
    assert "paw" not in warning


def test_animals_with_exchanged_labels_are_found() -> None:
    seen = herd(20)
    labels = seen.labels.copy()
    labels[[4, 11]] = labels[[4, 11]][:, SPACE.swap]
    found = match(replace(seen, labels=labels))
    assert found.swapped == (4, 11)
    assert any("exchanged on 2 of 20" in w for w in found.warnings)
    assert [m.target for m in found.matches] == list(SPACE.keypoints)


def test_sides_that_the_model_cannot_tell_are_told() -> None:
    seen = herd(40)
    predictions = seen.predictions.copy()
    predictions[::2] = predictions[::2][:, SPACE.swap]
    found = match(replace(seen, predictions=predictions))
    assert any("left or right?" in w for w in found.warnings)
    centre = {m.source: m for m in found.matches}
    assert centre["p0"].accepted
    assert centre["p3"].accepted


def side_view(facing: np.ndarray) -> Observations:
    """Animals from the side: the dataset has one eye, on the side that is seen."""
    n = len(facing)
    seen = herd(n, noise=0.01)
    side = BODY * [1, 0.3] + [0, 0]
    xy = SIZE * side[None] * np.where(facing[:, None, None] > 0, [1.0, 1], [-1.0, 1]) + 200
    predictions = xy + np.random.default_rng(3).normal(0, 0.5, xy.shape)
    eye = np.where(facing[:, None] < 0, xy[:, 1], xy[:, 2])
    labels = np.stack([xy[:, 0], eye, xy[:, 6]], 1)
    hidden = np.where(facing < 0, 2, 1)
    predictions[np.arange(n), hidden] = np.nan
    return replace(seen, labels=labels, predictions=predictions, facing=facing.astype(np.int8))


def test_the_eye_on_the_visible_side() -> None:
    found = match(side_view(np.array([-1, 1] * 8)))
    assert [m.target for m in found.matches] == ["nose", "left_eye|right_eye", "tail"]
    assert all(m.accepted for m in found.matches)


def test_animals_that_all_face_one_way_cannot_tell_a_side_from_the_visible_one() -> None:
    found = match(side_view(np.ones(12)))
    assert [m.target for m in found.matches] == ["nose", "right_eye", "tail"]
    assert any("face right" in w and "right_eye" in w for w in found.warnings)


def test_a_person_has_the_last_word() -> None:
    found = match(herd())
    moved = found.revise("p0", "neck")
    table = dict(moved.table().rows)
    assert table["p0"] == "neck"
    assert "p3" not in table, "two labels cannot be the same point"
    assert "took its place" in moved.matches[3].reason
    assert "p0" not in dict(moved.revise("p0", "").table().rows)
    assert len(found.table().rows) == 7, "the proposal itself stays"
    with pytest.raises(KeyError):
        found.revise("p0", "wing")


@pytest.mark.parametrize(
    ("names", "sides"),
    [
        (("left_ear", "Right ear", "nose"), {"left_ear": "left", "Right ear": "right"}),
        (("earl", "earr", "tail"), {"earl": "left", "earr": "right"}),
        (("L_F_Paw", "R_F_Paw"), {"L_F_Paw": "left", "R_F_Paw": "right"}),
        (("fl1", "fr1"), {"fl1": "left", "fr1": "right"}),
        (("Nearknee", "Offknee", "Offside"), {"Nearknee": "left", "Offknee": "right"}),
        (("tail", "lip", "elbow"), {}),
    ],
)
def test_sides_are_read_off_names(names: tuple[str, ...], sides: dict[str, str]) -> None:
    assert sides_of_names(names) == sides
