"""What is predicted when the user names paths, and how results are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.inputs import gather, refuse_doubles
from napari_superanimal.jobs.outputs import check_file, check_folder, check_new, file_safe
from napari_superanimal.jobs.predict_plan import frame_range, scorer_name
from napari_superanimal.models.card import ModelCard
from napari_superanimal.models.zoo import ModelRef


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_videos_folders_and_single_images(tmp_path: Path) -> None:
    video, folder, loose = tmp_path / "v" / "a.b.mp4", tmp_path / "day 1", tmp_path / "photos"
    touch(video, folder / "img10.PNG", folder / "img2.png", folder / "notes.txt", folder / ".hidden.png")
    touch(loose / "x.jpg", loose / "y.jpg", loose / "z.jpg")
    sources = gather([loose / "y.jpg", video, folder, loose / "x.jpg", loose / "y.jpg"])
    assert [s.name for s in sources] == ["photos", "a.b", "day 1"]
    assert sources[0].images == (loose / "y.jpg", loose / "x.jpg")
    assert sources[0].folder == loose
    assert sources[1].is_video
    assert [p.name for p in sources[2].images] == ["img2.png", "img10.PNG"]
    assert sources[2].folder == tmp_path
    assert gather([loose / "z.jpg"])[0].name == "z"


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    touch(folder / "a.png", folder / "b.png")
    monkeypatch.chdir(folder)
    assert gather([Path()])[0].name == "here"
    assert gather([Path("a.png"), Path("b.png")])[0].name == "here"


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        gather([tmp_path / "absent.mp4"])
    with pytest.raises(UserError, match="no images"):
        gather([tmp_path])
    with pytest.raises(UserError, match="a\\.mp4 and b\\.mp4"):
        refuse_doubles([("a.mp4", tmp_path / "x.h5"), ("b.mp4", tmp_path / "x.h5")])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((None, None, None), range(10)),
        ((2, 8, 3), range(2, 8, 3)),
        ((-3, None, None), range(7, 10)),
        ((5, 99, None), range(5, 10)),
    ],
)
def test_frames_are_those_of_a_slice(
    asked: tuple[int | None, int | None, int | None], expected: range
) -> None:
    assert list(frame_range(asked, 10, Path("v.mp4"))) == list(expected)


@pytest.mark.parametrize("asked", [(10, None, None), (5, 5, None), (None, None, 0), (None, None, -1)])
def test_no_frames_are_an_error(asked: tuple[int | None, int | None, int | None]) -> None:
    with pytest.raises(UserError):
        frame_range(asked, 10, Path("v.mp4"))


def test_scorers_are_safe_as_file_names() -> None:
    mine = ModelRef(ModelCard("my model/v2: ünï"), Path())
    other = ModelRef(ModelCard("quadruped-sideview-mini"), Path())
    assert scorer_name(other, "model") == scorer_name(other, other) == "quadruped-sideview-mini"
    assert scorer_name(other, "whole-frame") == "quadruped-sideview-mini_whole-frame"
    assert scorer_name(mine, other) == "my-model-v2-n_quadruped-sideview-mini"
    assert file_safe("..") == "unnamed"


def test_outputs_are_looked_at_without_touching_them(tmp_path: Path) -> None:
    touch(tmp_path / "result.h5")
    check_file(tmp_path / "result.h5")
    check_folder(tmp_path / "new" / "deep", 1000)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "result.h5"]
    assert (tmp_path / "result.h5").read_bytes() == b"x"
    with pytest.raises(UserError, match="kept"):
        check_new([tmp_path / "absent.h5", tmp_path / "result.h5"])
    with pytest.raises(UserError, match="is a folder"):
        check_file(tmp_path / "new")
    with pytest.raises(UserError, match="cannot write"):
        check_folder(tmp_path / "result.h5" / "below")
    with pytest.raises(UserError, match="MB left"):
        check_folder(tmp_path, 10**18)
