"""Keypoint spaces: counts, mirror images, files."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import BUILTIN_SPACES, KeypointSpace, load_space, space_from_names

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = {
    "superanimal_quadruped": 39,
    "superanimal_topviewmouse": 27,
    "superanimal_bird": 42,
    "superanimal_humanbody": 17,
}


@st.composite
def spaces(draw: st.DrawFn) -> KeypointSpace:
    names = draw(st.lists(st.text(min_size=1), min_size=1, max_size=12, unique=True))
    shuffled = draw(st.permutations(names))
    some = st.lists(st.sampled_from(names), max_size=4).map(tuple)
    byte = st.integers(0, 255)
    finite = st.floats(0.001, 10)
    k = len(names)
    return KeypointSpace(
        name=draw(st.text()),
        keypoints=tuple(names),
        skeleton=tuple(draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=6))),
        pairs=tuple(zip(shuffled[: k // 2], shuffled[k // 2 : 2 * (k // 2)], strict=True)),
        sigmas=tuple(draw(st.one_of(st.just([]), st.lists(finite, min_size=k, max_size=k)))),
        colors=tuple(
            draw(st.one_of(st.just([]), st.lists(st.tuples(byte, byte, byte), min_size=k, max_size=k)))
        ),
        front=draw(some),
        rear=draw(some),
    )


def test_the_builtin_spaces_are_those_of_superanimal() -> None:
    assert set(COUNTS) == set(BUILTIN_SPACES)


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_builtin_space(name: str, count: int) -> None:
    space = load_space(name)
    assert space.name == name
    assert len(space) == len(set(space.keypoints)) == count
    assert (space.oks_sigmas() > 0).all()
    assert space.oks_sigmas().shape == (count,)
    assert space.edges.shape == (len(space.skeleton), 2)
    assert all(space.keypoints[space.index(k)] == k and k in space for k in space.keypoints)
    # every name that says its side has its partner, and pairs are (left, right)
    sided = {k for k in space.keypoints if "left" in k or "right" in k}
    assert {k for pair in space.pairs for k in pair} == sided
    for left, right in space.pairs:
        assert left.replace("left", "right") == right


@pytest.mark.parametrize("name", BUILTIN_SPACES)
def test_mirroring_twice_changes_nothing(name: str) -> None:
    space = load_space(name)
    swap = space.swap
    np.testing.assert_array_equal(swap[swap], np.arange(len(space)))
    assert (swap != np.arange(len(space))).sum() == 2 * len(space.pairs)
    left, right = space.pairs[0]
    assert swap[space.index(left)] == space.index(right)


@settings(max_examples=40)
@given(spaces())
def test_a_space_survives_its_file(space: KeypointSpace) -> None:
    again = KeypointSpace.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space
    np.testing.assert_array_equal(again.swap[again.swap], np.arange(len(space)))


def test_a_users_own_space_is_read_from_a_file(tmp_path: Path) -> None:
    own = replace(space_from_names(("Nase", "Ohr links", "Schwanz ä")), name="Maus")
    path = tmp_path / "maus.json"
    path.write_text(json.dumps(own.to_json(), ensure_ascii=False), encoding="utf-8")
    assert load_space(path) == own


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        '"name"',
        "{}",
        '{"name": "x"}',
        '{"name": "x", "keypoints": 5}',
        '{"name": "x", "keypoints": ["a", "a"]}',
        '{"name": "x", "keypoints": ["a"], "pairs": [["a", "b"]]}',
        '{"name": "x", "keypoints": ["a", "b"], "pairs": [["a"]]}',
        '{"name": "x", "keypoints": ["a", "b"], "sigmas": [0.1]}',
        '{"name": "x", "keypoints": ["a"], "sigmas": ["wide"]}',
        '{"name": "x", "keypoints": ["a", "b", "c"], "pairs": [["a", "b"], ["b", "c"]]}',
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "space.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="not a keypoint space") as caught:
        load_space(path)
    assert caught.value.path == path


def test_an_unknown_space_lists_those_there_are() -> None:
    with pytest.raises(UserError, match="superanimal_quadruped"):
        load_space("superanimal_octopus")


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("left_ear", "nose", "right_ear"), {("left_ear", "right_ear")}),
        (("ear_left", "ear_right"), {("ear_left", "ear_right")}),
        (("leftear", "rightear", "snout"), {("leftear", "rightear")}),
        (("L_paw", "R_paw"), {("L_paw", "R_paw")}),
        (("paw_R", "paw_L"), {("paw_L", "paw_R")}),
        (("frontLeftPaw", "frontRightPaw"), {("frontLeftPaw", "frontRightPaw")}),
        (("Left front leg: paw", "Right front leg: paw"), {("Left front leg: paw", "Right front leg: paw")}),
        (("left_ear", "nose"), set()),
        (("tail", "tail_r", "l_tail"), set()),
        (("lip", "rip"), set()),
    ],
)
def test_pairs_are_read_off_names(names: tuple[str, ...], pairs: set[tuple[str, str]]) -> None:
    assert set(space_from_names(names).pairs) == pairs


SIDED = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "left", "left_", "right_", "l_", "r_", "L_"]),
        st.text(string.ascii_lowercase[:3], min_size=1, max_size=2),
        st.sampled_from(["", "_left", "_right", "_l", "_r", "_R"]),
    ),
)


@example(["left_ear_l", "right_ear_l", "left_ear_r", "right_ear_r"])
@given(st.lists(SIDED, min_size=1, max_size=14, unique=True))
def test_a_mirror_of_any_names_is_a_permutation(names: list[str]) -> None:
    swap = space_from_names(tuple(names)).swap
    np.testing.assert_array_equal(swap[swap], np.arange(len(names)))
