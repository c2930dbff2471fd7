"""Conversion tables: files, checks, and that none is ever guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import (
    ConversionTable,
    builtin_tables,
    find_table,
    identity_table,
    load_space,
    load_table,
    read_table,
    table_for,
    write_table,
)
from napari_superanimal.keypoints.table import parse_table

if TYPE_CHECKING:
    from pathlib import Path

MOUSE = load_space("superanimal_topviewmouse")
QUADRUPED = load_space("superanimal_quadruped")
SHIPPED = builtin_tables()

#: LivestockKeypoints under its two vocabularies, and AP-10K, as the datasets declare them.
LIVESTOCK = [
    "mouth",
    "eye",
    "ear",
    "neck",
    "shoulder",
    "chest",
    "hip",
    "tail",
    "elbow",
    "l_fore_wrist",
    "l_fore_foot",
    "r_fore_wrist",
    "r_fore_foot",
    "hind_knee",
    "l_hind_hock",
    "l_hind_foot",
    "r_hind_hock",
    "r_hind_foot",
]
CATTLE = [
    "mouth",
    "eye",
    "ear",
    "neck",
    "body1",
    "body2",
    "body3",
    "body4",
    "F",
    "fl1",
    "fl2",
    "fr1",
    "fr2",
    "B",
    "bl1",
    "bl2",
    "br1",
    "br2",
]
AP10K = [
    "left_eye",
    "right_eye",
    "nose",
    "neck",
    "root_of_tail",
    "left_shoulder",
    "left_elbow",
    "left_front_paw",
    "right_shoulder",
    "right_elbow",
    "right_front_paw",
    "left_hip",
    "left_knee",
    "left_back_paw",
    "right_hip",
    "right_knee",
    "right_back_paw",
]

#: Names as people write them: any printable text without blank ends (cells are stripped), no line breaks.
NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1).filter(
    lambda s: s == s.strip()
)


@example({"# hash": "nose", 'a,"b"': "ä #1"}, "")
@given(
    st.dictionaries(NAMES, NAMES, max_size=10).filter(lambda d: len(set(d.values())) == len(d)),
    st.sampled_from(["", "superanimal_quadruped"]),
)
@settings(max_examples=50)
def test_a_table_survives_its_file(tmp_path_factory: pytest.TempPathFactory, rows: dict, space: str) -> None:
    path = tmp_path_factory.mktemp("tables") / "mine.csv"
    table = ConversionTable("mine", tuple(rows.items()), space)
    write_table(table, path)
    assert read_table(path) == table


def test_comments_empty_targets_blank_lines_and_spaces() -> None:
    table = parse_table(
        "# made by hand\n# space: superanimal_topviewmouse\n\nsource , keypoint, why\n"
        "snout, nose, same point\n# another\ntail tip,\n\nlonely\n",
        name="t",
    )
    assert table.rows == (("snout", "nose"),)
    assert table.space == "superanimal_topviewmouse"
    assert table.target("snout") == "nose"
    assert table.target("tail tip") is None


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    path.write_bytes(b"\xef\xbb\xbfsource,keypoint\r\nsnout,nose\r\n")
    assert read_table(path).rows == (("snout", "nose"),)


@pytest.mark.parametrize(
    "text", ["", "snout,nose\n", "keypoint,source\nnose,snout\n", "source;keypoint\na;b\n"]
)
def test_a_table_without_its_header_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="header") as caught:
        read_table(path)
    assert caught.value.path == path


@pytest.mark.parametrize("content", [None, b"source,keypoint\n\xff\xfe,nose\n"])
def test_an_unreadable_table_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="cannot read") as caught:
        read_table(path)
    assert caught.value.path == path


def test_two_sources_on_one_target_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("source,keypoint\nsnout,nose\nnosetip,nose\n", encoding="utf-8")
    with pytest.raises(UserError, match="two source keypoints to \\['nose'\\]"):
        read_table(path)


def test_one_source_on_two_targets_is_an_error() -> None:
    with pytest.raises(UserError, match="'ear'"):
        ConversionTable("t", (("ear", "left_ear"), ("ear", "right_ear")))


def test_a_target_outside_the_space_is_an_error() -> None:
    table = ConversionTable("t", (("snout", "nose"), ("beak", "bill")))
    with pytest.raises(UserError, match="'bill' is not a keypoint of superanimal_topviewmouse"):
        table.check(("snout", "beak"), MOUSE)
    with pytest.raises(UserError, match="'right_beak'"):
        ConversionTable("t", (("eye", "left_eye|right_beak"),)).check(("eye",), MOUSE)


def test_a_table_for_another_dataset_is_an_error() -> None:
    with pytest.raises(UserError, match="none of the dataset's keypoints"):
        SHIPPED["openfield"].check(("NOSE", "HEAD"), MOUSE)


def test_unmapped_names_are_listed_in_order() -> None:
    assert SHIPPED["livestock"].check(LIVESTOCK, QUADRUPED) == ("shoulder", "hip")
    assert SHIPPED["livestock_cattle"].check(CATTLE, QUADRUPED) == ("body1", "body3")
    assert SHIPPED["ap10k"].check(AP10K, QUADRUPED) == ()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_table_fits_its_space(name: str) -> None:
    table = SHIPPED[name]
    space = load_space(table.space)
    assert table.rows
    assert table.check([s for s, _ in table.rows], space) == ()
    for source, target in table.rows:
        left, _, right = target.partition("|")
        if right:
            assert (left, right) in space.pairs, f"{source}: {target} is no (left, right) pair"


def test_livestock_tables_say_the_same_of_the_same_points() -> None:
    """The cattle's internal names are those of the other species in the same order."""
    for horse, cattle in zip(LIVESTOCK, CATTLE, strict=True):
        assert SHIPPED["livestock"].target(horse) == SHIPPED["livestock_cattle"].target(cattle)


@pytest.mark.parametrize(
    ("names", "space", "expected"),
    [
        (("snout", "leftear", "rightear", "tailbase"), MOUSE, "openfield"),
        (("tailbase", "snout", "rightear", "leftear", "objectB"), MOUSE, "openfield"),
        (("NOSE", "HEAD", "TAIL", "objectA"), MOUSE, "oft"),
        (LIVESTOCK, QUADRUPED, "livestock"),
        (CATTLE, QUADRUPED, "livestock_cattle"),
        (AP10K, QUADRUPED, "ap10k"),
        (QUADRUPED.keypoints, QUADRUPED, "same names"),
        (("nose", "tail_base"), MOUSE, "same names"),
        (("nose", "left_ear", "my own point"), MOUSE, "same names"),
        # one shared name proves nothing, nor do names of another space's datasets or in other letters
        (("nose", "my own point"), MOUSE, None),
        (("snout", "leftear", "rightear", "tailbase"), QUADRUPED, None),
        (("Snout", "Leftear", "Rightear", "Tailbase"), MOUSE, None),
        (("snout", "leftear"), MOUSE, None),
        (("mouth", "eye", "ear", "neck"), QUADRUPED, None),
        (("bodypart1", "bodypart2"), MOUSE, None),
        (LIVESTOCK, MOUSE, None),
    ],
)
def test_a_table_is_found_and_never_guessed(names: tuple, space: object, expected: str | None) -> None:
    found = find_table(names, space)  # type: ignore[arg-type]
    assert (found.name if found else None) == expected


@pytest.mark.parametrize(
    "names", [[*LIVESTOCK, *CATTLE], [*LIVESTOCK, *(n for n in AP10K if n not in LIVESTOCK)]]
)
def test_names_that_two_tables_explain_differently_are_left_to_the_user(names: list[str]) -> None:
    assert find_table(list(dict.fromkeys(names)), QUADRUPED) is None


def test_identity_maps_what_the_space_has() -> None:
    table = identity_table(("nose", "snout", "tail_base"), MOUSE)
    assert table.rows == (("nose", "nose"), ("tail_base", "tail_base"))
    assert table.check(("nose", "snout", "tail_base"), MOUSE) == ("snout",)


def test_tables_are_loaded_by_name_or_file(tmp_path: Path) -> None:
    assert load_table("openfield") == SHIPPED["openfield"]
    write_table(SHIPPED["oft"], tmp_path / "openfield")
    assert load_table(tmp_path / "openfield").rows == SHIPPED["oft"].rows
    with pytest.raises(UserError, match="openfield"):
        load_table("closedfield")


def test_tables_by_name_beside_a_recipe_or_by_the_names(tmp_path: Path) -> None:
    names = ("snout", "leftear", "rightear", "tailbase")
    assert table_for(names, MOUSE).name == "openfield"
    (tmp_path / "mine.csv").write_text("source,keypoint\nsnout,nose\n")
    assert table_for(names, MOUSE, "mine.csv", folder=tmp_path).rows == (("snout", "nose"),)
    assert table_for(names, MOUSE, tmp_path / "mine.csv").rows == (("snout", "nose"),)
    assert table_for(names, MOUSE, "oft", folder=tmp_path).name == "oft"
    with pytest.raises(UserError, match=r"cannot tell.*p1.*conversion table") as caught:
        table_for(("p1", "p2"), MOUSE, path=tmp_path / "labels.json")
    assert caught.value.path == tmp_path / "labels.json"
