"""The paper's conversion tables, and files with the tables of several datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import builtin_tables, find_table, load_space, table_for
from napari_superanimal.keypoints.many import paper_tables, parse_tables, pick_table, saved_table_path
from napari_superanimal.keypoints.matching_sides import sides_of_names

if TYPE_CHECKING:
    from pathlib import Path

MOUSE, QUADRUPED = "superanimal_topviewmouse", "superanimal_quadruped"
PAPER = paper_tables()


def test_all_datasets_of_the_paper_are_there() -> None:
    spaces = [t.space for t in PAPER.values()]
    assert spaces.count(MOUSE) == 15
    assert spaces.count(QUADRUPED) == 6
    assert sum(len(t.rows) for t in PAPER.values() if t.space == MOUSE) == 171
    assert sum(len(t.rows) for t in PAPER.values() if t.space == QUADRUPED) == 102


@pytest.mark.parametrize("name", PAPER)
def test_every_row_names_a_keypoint_on_the_same_side(name: str) -> None:
    """No left goes to a right: the hind feet of the paper's other copy do, and must not come back."""
    table = PAPER[name]
    space = load_space(table.space)
    left, right = ({p[i] for p in space.pairs} for i in (0, 1))
    sides = sides_of_names(tuple(s for s, _ in table.rows))
    assert table.check([s for s, _ in table.rows], space) == ()
    for source, target in table.rows:
        if sides.get(source) == "left":
            assert target in left, source
        elif sides.get(source) == "right":
            assert target in right, source


def test_hind_feet_of_horses_are_not_exchanged() -> None:
    horse = dict(pick_table("paper:horse").rows)
    assert horse["Nearhindfoot"] == "back_left_paw"
    assert horse["Offhindfoot"] == "back_right_paw"
    assert dict(builtin_tables()["horse10"].rows)["Nearhindfoot"] == "back_left_paw"


def test_the_same_name_means_what_it_means_in_its_dataset() -> None:
    spine = {n: dict(PAPER[n].rows)["spine1"] for n in ("MackenzieMausHaus", "Daniel3Mouse", "Mostafizur")}
    assert spine == {"MackenzieMausHaus": "neck", "Daniel3Mouse": "mid_back", "Mostafizur": "mid_back"}
    four = [dict(PAPER["Daniel3Mouse"].rows)[f"spine{i}"] for i in range(1, 5)]
    assert four == ["mid_back", "mouse_center", "mid_backend", "mid_backend2"]


WIDE = "lab a ,labB,MasterName\nsnout , nose,nose\n,ear l,left_ear\nbase,,tail_base\n"
LONG = (
    f"# space: {MOUSE}\ndataset,source,keypoint\nlab a,snout,nose\nlabB,nose,nose\n"
    "lab a,base,tail_base\nlabB,ear l,left_ear\n"
)


def test_wide_and_long_files_say_the_same() -> None:
    wide, long = parse_tables(WIDE), parse_tables(LONG)
    assert {n: set(t.rows) for n, t in wide.items()} == {n: set(t.rows) for n, t in long.items()}
    assert wide["lab a"].rows == (("snout", "nose"), ("base", "tail_base"))
    assert long["labB"].space == MOUSE


def test_a_column_of_a_file_is_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "labs.csv"
    path.write_text(WIDE, encoding="utf-8")
    assert dict(pick_table(f"{path}:labB").rows) == {"nose": "nose", "ear l": "left_ear"}
    with pytest.raises(UserError, match="tables of 2 datasets"):
        pick_table(path)
    with pytest.raises(UserError, match=r"no dataset 'labC'.*lab a"):
        pick_table(f"{path}:labC")
    with pytest.raises(UserError, match="no dataset 'mine'"):
        pick_table("paper:mine")


def test_the_table_that_deeplabcuts_matching_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "conversion_table.csv"
    path.write_text("gt, MasterName\nsnout, nose\n, left_ear\n", encoding="utf-8")
    assert pick_table(path).rows == (("snout", "nose"),)


@pytest.mark.parametrize("text", ["", "a,b\nx,y\n", "dataset,source\na,b\n"])
def test_another_file_is_no_table(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError):
        parse_tables(text)
    path = tmp_path / "x.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError):
        pick_table(path)


def test_a_saved_table_lies_with_its_dataset(tmp_path: Path) -> None:
    assert saved_table_path(tmp_path, MOUSE) == tmp_path / f"{MOUSE}.table.csv"
    assert saved_table_path(tmp_path / "a.json", MOUSE).name == f"a.{MOUSE}.table.csv"


def test_names_of_a_dataset_of_the_paper_need_no_table() -> None:
    mouse = load_space(MOUSE)
    daniel = tuple(s for s, _ in PAPER["Daniel3Mouse"].rows)
    found = find_table(daniel, mouse)
    assert found is not None
    assert found.rows == PAPER["Daniel3Mouse"].rows, "more than the four names of the open field example"
    assert find_table(("snout", "leftear", "rightear", "tailbase"), mouse).name == "openfield"  # type: ignore[union-attr]
    epm = find_table([*(s for s, _ in PAPER["EPM"].rows), "toy"], mouse)
    assert epm is not None
    assert epm.rows == PAPER["OFT"].rows
    assert find_table(("spine1", "spine2"), mouse) is None, "neck or middle of the back: nobody knows"


def test_the_table_saved_with_a_dataset_goes_first(tmp_path: Path) -> None:
    mouse = load_space(MOUSE)
    names = ("snout", "leftear", "rightear", "tailbase")
    data = tmp_path / "config.yaml"
    assert table_for(names, mouse, path=data).name == "openfield"
    saved_table_path(data, MOUSE).write_text(
        "source,keypoint,proposed\nsnout,nose,nose\ntailbase,,tail_base\n"
    )
    assert table_for(names, mouse, path=data).rows == (("snout", "nose"),)
    assert table_for(names, mouse, path=tmp_path).rows == (("snout", "nose"),)
    assert table_for(names, mouse, "paper:dlc-openfield", path=data).name == "paper:dlc-openfield"
