"""Merging and converting back: nothing that a dataset defines is changed on the way."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_superanimal.keypoints import ConversionTable, load_space
from napari_superanimal.poses import (
    LABELLED,
    OCCLUDED,
    UNDEFINED,
    UNLABELLED,
    Poses,
    make_poses,
    merge,
    part_of,
    project,
    unproject,
)
from napari_superanimal.poses.formats import registry

SPACE = load_space("superanimal_topviewmouse")
ARRAYS = ("xy", "visibility", "likelihood", "human")

#: Names that make trouble: spaces, dots, the space's own names with another meaning.
NAMES = ("snout", "tail.base", "left ear", "nose", "spine1", "Körper", "mid_back")


@st.composite
def labelled(draw: Any) -> tuple[Poses, ConversionTable]:
    """A dataset with its own names, and a table for some of them."""
    count = draw(st.integers(1, len(NAMES)))
    names = tuple(draw(st.permutations(NAMES))[:count])
    targets = draw(st.permutations(SPACE.keypoints))[:count]
    mapped = draw(st.integers(1, count))
    table = ConversionTable("t", tuple(zip(names[:mapped], targets, strict=False)), SPACE.name)
    t = draw(st.integers(1, 4))
    individuals = draw(st.sampled_from([("",), ("mus1", "mus2"), ("rat",), ("a", "b", "c")]))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    shape = (t, len(individuals), count)
    found = rng.uniform(size=shape) < 0.7
    codes = np.where(found, rng.choice([LABELLED, OCCLUDED], shape), UNLABELLED)
    boxes = np.where(rng.uniform(size=(*shape[:2], 1)) < 0.5, rng.uniform(1, 99, (*shape[:2], 4)), np.nan)
    split = draw(st.sampled_from(["", "train", "test"]))
    poses = make_poses(
        names,
        np.where(found[..., None], rng.uniform(-9, 5000, (*shape, 2)), np.nan),
        individuals=individuals,
        visibility=codes,
        likelihood=rng.uniform(size=shape),
        human=rng.uniform(size=shape) < 0.7,
        boxes=boxes,
        images=tuple(f"labeled-data/clip/img{i}.png" for i in range(t)),
        scorer="Ann",
        splits=(split,) * t if split else (),
        ids=tuple(str(7 * i + 3) for i in range(t)),
    )
    return poses, table


def assert_same(a: Poses, b: Poses) -> None:
    assert a.keypoints == b.keypoints
    assert a.individuals == b.individuals
    for name in (*ARRAYS, "boxes", "box_scores"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def mapped_only(poses: Poses, table: ConversionTable) -> Poses:
    """What a table carries over: keypoints that it leaves out are undefined afterwards."""
    lost = np.array([table.target(k) is None for k in poses.keypoints])
    return replace(
        poses,
        xy=np.where(lost[:, None], np.nan, poses.xy),
        visibility=np.where(lost, UNDEFINED, poses.visibility).astype(np.int8),
        likelihood=np.where(lost, np.nan, poses.likelihood),
        human=poses.human & ~lost,
    )


@settings(max_examples=60)
@given(labelled())
def test_converting_there_and_back_is_the_identity(given_: tuple[Poses, ConversionTable]) -> None:
    poses, table = given_
    there = project(poses, table, SPACE)
    back = unproject(there, table, poses.keypoints)
    assert_same(back, mapped_only(poses, table))
    defined = {t for _, t in table.rows}
    for k, name in enumerate(SPACE.keypoints):
        assert (there.visibility[..., k] == UNDEFINED).all() == (name not in defined)


@settings(max_examples=60)
@given(st.lists(labelled(), min_size=1, max_size=3))
def test_every_part_of_a_merge_comes_back(parts: list[tuple[Poses, ConversionTable]]) -> None:
    names = [f"lab {i}" for i in range(len(parts))]
    merged = merge([project(p, t, SPACE) for p, t in parts], names)
    assert len(merged) == sum(len(p) for p, _ in parts)
    assert int(merged.found.sum()) == sum(int(mapped_only(p, t).found.sum()) for p, t in parts)
    for (poses, table), name in zip(parts, names, strict=True):
        part = part_of(merged, name)
        back = unproject(part, table, tuple(part.metadata["source_keypoints"]))
        assert_same(back, mapped_only(poses, table))
        assert part.splits == poses.splits or not any(part.splits)
        assert part.ids == poses.ids
        assert part.scorer == "Ann"
        assert [tuple(r) for r in part.metadata["table_rows"]] == list(table.rows)


@pytest.mark.parametrize(
    ("target", "format_"), [("all.json", "coco"), ("all.h5", "dlc-h5"), ("all", "dlc-project")]
)
@settings(max_examples=12)
@given(st.lists(labelled(), min_size=1, max_size=3))
def test_a_merge_survives_files(
    target: str, format_: str, parts: list[tuple[Poses, ConversionTable]]
) -> None:
    names = [f"lab{i}" for i in range(len(parts))]
    placed = [
        replace(
            project(p, t, SPACE),
            images=tuple(f"labeled-data/clip_{n}/img{i}.png" for i in range(len(p))),
            human=project(p, t, SPACE).found,
        )
        for (p, t), n in zip(parts, names, strict=True)
    ]
    merged = merge(placed, names)
    if not merged.found.any():
        return
    with tempfile.TemporaryDirectory() as folder:
        registry.write(merged, Path(folder) / target, format_)
        again = registry.read(Path(folder) / target)
    assert again.keypoints == merged.keypoints
    assert again.sources == merged.sources
    assert again.ids == merged.ids
    assert again.splits == merged.splits
    for name in names:
        one, two = part_of(merged, name), part_of(again, name)
        here = one.present
        for array in (*ARRAYS, "boxes"):
            np.testing.assert_array_equal(getattr(one, array)[here], getattr(two, array)[here], err_msg=array)


def test_names_that_agree_are_kept_and_others_numbered() -> None:
    def part(*names: str) -> Poses:
        xy = np.ones((1, len(names), 1, 2))
        return make_poses(("x",), xy, individuals=names, images=("a.png",))

    assert merge([part("m1", "m2"), part("m1")], ["a", "b"]).individuals == ("m1", "m2")
    merged = merge([part("m1", "m2"), part("rat")], ["a", "b"])
    assert merged.individuals == ("animal0", "animal1")
    assert part_of(merged, "b").individuals == ("rat",)
    with pytest.raises(KeyError):
        part_of(merged, "c")
    with pytest.raises(ValueError, match="name of its own"):
        merge([part("m"), part("m")], ["a", "a"])
