"""`superanimal merge`: several data sets in, one out, and a report."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_superanimal.cli import main
from napari_superanimal.poses import UNDEFINED, UNLABELLED, Poses, make_poses, part_of
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from pathlib import Path

SPACE = "superanimal_topviewmouse"


def lab(
    folder: Path, names: tuple[str, ...], n: int, individuals: tuple[str, ...] = ("",), seed: int = 0
) -> Poses:
    """Labelled pictures in a folder of their own."""
    rng = np.random.default_rng(seed)
    (folder / "labeled-data" / "clip").mkdir(parents=True)
    images = tuple(f"labeled-data/clip/img{i:03d}.png" for i in range(n))
    for name in images:
        Image.fromarray(rng.integers(0, 255, (60, 80), np.uint8)).save(folder / name)
    xy = rng.uniform(5, 55, (n, len(individuals), len(names), 2))
    xy[0, 0, 0] = np.nan
    return make_poses(
        names,
        xy,
        individuals=individuals,
        images=images,
        image_sizes=np.full((n, 2), (80, 60)),
        root=folder,
        human=True,
        scorer="Ann",
    )


@pytest.fixture
def labs(tmp_path: Path) -> dict[str, Path]:
    """Three data sets: a DeepLabCut project, a COCO file, and a COCO folder with a split."""
    project = lab(tmp_path / "a", ("snout", "leftear", "rightear", "tailbase"), 5, seed=1)
    registry.write(project, tmp_path / "project", "dlc-project")
    pair = lab(tmp_path / "b", ("spine1", "tail", "toy"), 4, ("m1", "m2"), seed=2)
    boxes = np.full((4, 2, 4), (1.0, 2, 30, 40))
    registry.write(replace(pair, boxes=boxes), tmp_path / "b" / "pairs.json", "coco")
    (tmp_path / "b" / "table.csv").write_text("source,keypoint\nspine1,mid_back\ntail,tail_base\n")
    third = lab(tmp_path / "c", ("nose", "neck"), 6, seed=3)
    for split, rows in (("train", range(4)), ("test", range(4, 6))):
        registry.write(third.take(list(rows)), tmp_path / "c" / "annotations" / f"{split}.json", "coco")
    return {
        "project": tmp_path / "project",
        "pairs": tmp_path / "b" / "pairs.json",
        "table": tmp_path / "b" / "table.csv",
        "folder": tmp_path / "c",
    }


def merged(tmp_path: Path, labs: dict[str, Path], out: str, *more: str) -> dict[str, Any]:
    report = tmp_path / "report.json"
    words = [labs["project"], f"{labs['pairs']}={labs['table']}", f"{labs['folder']}"]
    code = main(
        ["merge", str(tmp_path / out), *map(str, words), "--space", SPACE, *more, "--json", str(report)]
    )
    assert code == 0
    return json.loads(report.read_text(encoding="utf-8"))


@pytest.mark.parametrize("out", ["all.json", "all.h5", "all"])
def test_three_labs_become_one_data_set(
    out: str, tmp_path: Path, labs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    report = merged(tmp_path, labs, out)
    assert [s["name"] for s in report["sources"]] == ["project", "pairs", "c"]
    assert [s["images"] for s in report["sources"]] == [5, 4, 6]
    assert report["images"] == 15
    assert report["individuals"] == 5 + 8 + 6
    assert report["sources"][1]["unmapped"] == {"toy": 8}
    assert report["sources"][2]["splits"] == {"test": 2, "train": 4}
    text = capsys.readouterr().out
    assert "toy (8 points)" in text

    again = registry.read(tmp_path / out)
    assert again.keypoints[0] == "nose"
    assert len(again.keypoints) == 27
    assert set(again.sources) == {"project", "pairs", "c"}
    assert all(again.image_path(row).is_file() for row in range(len(again)))
    rows = np.array([s == "pairs" for s in again.sources])
    codes = {k: set(again.visibility[rows][again.present[rows], i]) for i, k in enumerate(again.keypoints)}
    assert codes["nose"] == {UNDEFINED}, "this lab has no nose"
    assert codes["mid_back"] <= {UNLABELLED, 2}
    pair = part_of(again, "pairs")
    assert pair.individuals == ("m1", "m2")
    assert np.isfinite(pair.boxes).all()
    splits = {s for s, name in zip(again.splits, again.sources, strict=True) if name == "c"}
    assert splits == {"train", "test"}
    source = registry.read(labs["project"])
    np.testing.assert_array_equal(
        part_of(again, "project").xy[:, 0, [again.keypoints.index(k) for k in ("nose", "tail_base")]],
        source.xy[:, 0, [0, 3]],
    )


def test_a_merge_can_be_merged_and_trained_on(tmp_path: Path, labs: dict[str, Path]) -> None:
    merged(tmp_path, labs, "all.json")
    assert main(["merge", str(tmp_path / "twice.json"), str(tmp_path / "all.json"), "--space", SPACE]) == 0
    one, two = (registry.read(tmp_path / n) for n in ("all.json", "twice.json"))
    np.testing.assert_array_equal(one.xy, two.xy)
    np.testing.assert_array_equal(one.visibility[one.present], two.visibility[two.present])


def test_unmapped_keypoints_can_be_kept(tmp_path: Path, labs: dict[str, Path]) -> None:
    merged(tmp_path, labs, "all.json", "--keep-unmapped")
    again = registry.read(tmp_path / "all.json")
    assert again.keypoints[27:] == ("pairs:toy",)
    assert again.found[..., 27].sum() == 8


def test_only_a_report(tmp_path: Path, labs: dict[str, Path]) -> None:
    report = merged(tmp_path, labs, "all.json", "--check")
    assert report["images"] == 15
    assert not (tmp_path / "all.json").exists()


def test_the_papers_tables_are_chosen_by_data_set(tmp_path: Path) -> None:
    daniel = lab(tmp_path / "d", ("snout", "spine1", "spine2", "tailbase"), 2)
    registry.write(daniel, tmp_path / "d" / "x.json", "coco")
    out = tmp_path / "out.json"
    assert main(["merge", str(out), f"{tmp_path}/d/x.json=paper:Daniel3Mouse", "--space", SPACE]) == 0
    poses = registry.read(out)
    labelled = {k for i, k in enumerate(poses.keypoints) if poses.found[..., i].any()}
    assert labelled == {"nose", "mid_back", "mouse_center", "tail_base"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["gone.json"], "gone.json"),
        (["b/pairs.json"], "cannot tell which keypoints"),
        (["b/pairs.json=gone.csv"], "no conversion table 'gone.csv'"),
        (["b/pairs.json=paper:horse"], "is for superanimal_quadruped"),
        (["b/pairs.json=openfield"], "names none of the dataset's keypoints"),
        (["project", "--names", "a,b"], "2 different names for 1"),
        (["project", "--to", "stanfordextra"], "read only"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    words: list[str],
    complaint: str,
    tmp_path: Path,
    labs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["merge", "out.json", *words, "--space", SPACE]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert complaint in line
    assert not (tmp_path / "out.json").exists()


def test_nothing_is_replaced_unasked(
    tmp_path: Path, labs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = labs["pairs"].read_bytes()
    command = ["merge", str(labs["pairs"]), f"{labs['pairs']}={labs['table']}", "--space", SPACE]
    assert main(command) == 2
    assert main([*command, "--overwrite"]) == 2
    assert "would be replaced" in capsys.readouterr().err
    assert labs["pairs"].read_bytes() == before


def training_set(project: Path, train: list[int], test: list[int], shuffle: int = 1) -> None:
    """A training set as DeepLabCut writes it: all labels in one table, and who is in which part."""
    folder = project / "training-datasets" / "iteration-0" / "UnaugmentedDataSet_labMar30"
    folder.mkdir(parents=True, exist_ok=True)
    (table,) = (project / "labeled-data").glob("*/CollectedData_*.h5")
    (folder / "CollectedData_Ann.h5").write_bytes(table.read_bytes())
    content = [[{"image": "x"}], np.array(train), np.array(test), 0.6]
    name = f"Documentation_data-lab_60shuffle{shuffle}.pickle"
    (folder / name).write_bytes(pickle.dumps(content))


def test_the_split_of_a_deeplabcut_project_is_kept(tmp_path: Path, labs: dict[str, Path]) -> None:
    training_set(labs["project"], [0, 2, 4, -1], [1, 3])
    report = merged(tmp_path, labs, "all.json")
    assert report["sources"][0]["splits"] == {"train": 3, "test": 2}
    assert registry.read(tmp_path / "all.json").splits[:5] == ("train", "test", "train", "test", "train")
    # another shuffle that says something else: nothing is taken over, and that is told
    training_set(labs["project"], [0, 1, 2], [3, 4], shuffle=2)
    report = merged(tmp_path, labs, "two.json")
    assert report["sources"][0]["splits"] == {}
    assert any("divide the pictures differently" in w for w in report["sources"][0]["warnings"])
