"""Cards, model folders and the zoo."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pytest
import torch

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import load_space
from napari_superanimal.models.card import DETECTOR_FILE, POSE_FILE, ModelCard, read_card, write_card
from napari_superanimal.models.load import load_model, save_model
from napari_superanimal.models.zoo import (
    DEFAULT_MODEL,
    find_model,
    import_model,
    list_models,
    models_home,
    sha256,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_superanimal.models.load import LoadedModel

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def home(home: Path) -> Path:
    """The user's own models go to a folder of the test."""
    return home / "models"


@pytest.fixture
def folder(tiny_model: Callable[..., LoadedModel], tmp_path: Path) -> Path:
    """A complete model folder."""
    model = tiny_model(name="mine")
    save_model(model.card, model.pose, model.detector, tmp_path / "made")
    return tmp_path / "made"


def full_card() -> ModelCard:
    return ModelCard(
        name="all-fields",
        title="Everything",
        summary="Täglich | for | tests.",
        space=load_space("superanimal_topviewmouse").to_json(),
        keypoints=("nose", "tail_base"),
        species="mouse",
        view="top view",
        licence="CC BY 4.0",
        not_for="Rats.",
        trained_on=({"name": "openfield", "images": 66, "licence": "CC BY 4.0", "source": "somewhere"},),
        pose={"backbone": "x"},
        detector={"backbone": "y"},
        context=1.3,
        flip=True,
        side_canonical=True,
        threshold=0.35,
        detector_threshold=0.2,
        calibration={"threshold": 0.35, "curve": [{"n": 3}]},
        metrics={"openfield error": "2.1 px"},
        parent="mouse-topview-mini",
        created="2026-01-31",
        recipe={"steps": 5},
        sha256={POSE_FILE: "00"},
        official="superanimal_bird_resnet_50",
        source={"file": "bird.pt", "sha256": "11"},
    )


def test_a_card_survives_its_file(tmp_path: Path) -> None:
    card = full_card()
    default = ModelCard(name="all-fields")
    same = [f.name for f in fields(card) if getattr(card, f.name) == getattr(default, f.name)]
    assert same == ["name"], "the test's card fills in every field"
    write_card(card, tmp_path)
    assert read_card(tmp_path) == card
    assert ModelCard.from_json(json.loads(json.dumps(card.to_json()))) == card


def test_fields_of_a_later_version_are_no_trouble() -> None:
    assert ModelCard.from_json({"name": "x", "smell": "of mice"}).name == "x"


def test_a_card_for_people_says_what_matters() -> None:
    page = full_card().markdown()
    assert page.startswith("# Everything\n")
    for text in (
        "Täglich",
        "superanimal_topviewmouse (27 keypoints)",
        "nose, tail_base",
        "likelihood 0.35",
        "CC BY 4.0",
        "## When not to use it",
        "Rats.",
        "| openfield | 66 | CC BY 4.0 | somewhere |",
        "2.1 px",
        "mouse-topview-mini",
    ):
        assert text in page
    bare = ModelCard(name="bare").markdown()
    assert bare.startswith("# bare\n")
    assert "When not to use it" not in bare


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"name": "x", "keypoints": 5}',
        '"card"',
        "\xff",
        '{"name": "x"',
        '{"keypoints": []}',
    ],
)
def test_a_broken_card_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match="cannot be read") as caught:
        read_card(tmp_path)
    assert caught.value.path == path


def test_a_folder_without_a_card_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a model folder.*models list") as caught:
        find_model(tmp_path)
    assert caught.value.path == tmp_path


def test_a_saved_model_answers_as_before(tiny_model: Callable[..., LoadedModel], tmp_path: Path) -> None:
    model = tiny_model(name="mine")
    calibration = {"weights": torch.tensor([0.123456789, 1.0, 0.5]), "means": torch.rand(2, 5)}
    ref = save_model(model.card, model.pose, model.detector, tmp_path, calibration=calibration)
    assert set(ref.card.sha256) == {POSE_FILE, DETECTOR_FILE}
    verify(ref)
    again = load_model(tmp_path)
    assert again.card == ref.card == read_card(tmp_path)
    assert again.space == model.space
    assert not again.pose.training
    for name, value in model.pose.state_dict().items():
        stored = again.pose.state_dict()[name]
        assert stored.dtype == value.dtype
        torch.testing.assert_close(
            stored, value.half().to(value.dtype) if value.is_floating_point() else value
        )
    # calibration is not rounded
    for name, value in calibration.items():
        assert torch.equal(again.calibration[name], value)
    crops, picture = torch.randn(2, 3, 32, 32), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        for a, b in zip(model.pose(crops), again.pose(crops), strict=True):
            torch.testing.assert_close(a, b, atol=0.02, rtol=0.01)
        assert model.detector is not None
        assert again.detector is not None
        for a, b in zip(model.detector(picture), again.detector(picture), strict=True):
            torch.testing.assert_close(a, b, atol=0.02, rtol=0.01)


def test_a_model_without_detector(tiny_model: Callable[..., LoadedModel], tmp_path: Path) -> None:
    model = tiny_model(detector=False)
    ref = save_model(model.card, model.pose, None, tmp_path)
    assert set(ref.card.sha256) == {POSE_FILE}
    assert load_model(ref).detector is None


@pytest.mark.parametrize("name", [POSE_FILE, DETECTOR_FILE])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "text"])
def test_damaged_weights_are_named(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    if damage == "missing":
        path.unlink()
    else:
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"not a model"}[damage])
    with pytest.raises(UserError, match="weights cannot be read") as caught:
        load_model(folder)
    assert caught.value.path == path
    with pytest.raises(UserError, match="weight file") as caught:
        verify(find_model(folder))
    assert caught.value.path == path


def test_weights_of_another_model_are_refused(folder: Path) -> None:
    card = read_card(folder)
    write_card(replace(card, keypoints=(*card.keypoints, "neck")), folder)
    with pytest.raises(UserError, match=r"do not fit the card.*heatmaps") as caught:
        load_model(folder)
    assert caught.value.path == folder / POSE_FILE
    write_card(card, folder)
    shutil.copyfile(folder / POSE_FILE, folder / DETECTOR_FILE)
    with pytest.raises(UserError, match="do not fit the card") as caught:
        load_model(folder)
    assert caught.value.path == folder / DETECTOR_FILE


@pytest.mark.parametrize(
    "change",
    [
        {"pose": {}},
        {"pose": {"backbone": "no_such_network"}},
        {"pose": {"backbone": "resnet10t", "colour": 3}},
        {"pose": []},
        {"space": {}},
        {"space": {"name": "x", "keypoints": ["a", "a"]}},
        {"detector": {"width": 8}},
    ],
)
def test_a_card_that_describes_no_network_is_named(folder: Path, change: dict) -> None:
    write_card(replace(read_card(folder), **change), folder)
    with pytest.raises(UserError, match="card") as caught:
        load_model(folder)
    assert caught.value.path == folder / "card.json"


def test_the_zoo_lists_finds_and_imports(folder: Path, home: Path) -> None:
    assert models_home() == home
    before = [ref.card.name for ref in list_models()]
    assert "mine" not in before
    with pytest.raises(UserError, match="'mine'"):
        find_model("mine")
    ref = import_model(folder)
    assert ref.folder == home / "mine"
    assert not ref.shipped
    assert [r.card.name for r in list_models()] == [*before, "mine"]
    assert find_model("mine").folder == home / "mine"
    verify(find_model("mine"))
    assert {p.name for p in ref.folder.iterdir()} == {"card.json", POSE_FILE, DETECTOR_FILE}
    assert load_model("mine").card == read_card(folder)
    assert list(home.iterdir()) == [home / "mine"], "no left-overs"

    with pytest.raises(UserError, match="exists already"):
        import_model(folder)
    write_card(replace(read_card(folder), title="second"), folder)
    assert import_model(folder, overwrite=True).card.title == "second"
    # its own folder again is nothing to do
    assert import_model(home / "mine").card.title == "second"
    assert load_model("mine").card.title == "second"


def test_a_broken_model_does_not_hide_the_others(folder: Path, home: Path) -> None:
    import_model(folder)
    for text in ("[]", "{", '{"title": "nameless"}'):
        (home / "broken").mkdir(exist_ok=True)
        (home / "broken" / "card.json").write_text(text)
        assert "mine" in [ref.card.name for ref in list_models()]
        with pytest.raises(UserError, match="card") as caught:
            find_model("broken")
        assert caught.value.path == home / "broken" / "card.json"


def test_damaged_folders_are_not_imported(folder: Path, home: Path) -> None:
    path = folder / POSE_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="does not match its card"):
        import_model(folder)
    path.unlink()
    with pytest.raises(UserError, match="missing"):
        import_model(folder)
    assert not home.exists()


def test_a_card_without_checksums_is_not_imported(folder: Path, home: Path) -> None:
    """Nothing would be copied but the card."""
    write_card(replace(read_card(folder), sha256={}), folder)
    with pytest.raises(UserError, match="checksum"):
        import_model(folder)
    assert not home.exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../elsewhere", "a/b", "/tmp/x", ".hidden", "a\\b"])
def test_a_model_s_name_cannot_lead_elsewhere(folder: Path, home: Path, name: str) -> None:
    home.mkdir(parents=True)
    (home / "precious").write_text("weights")
    write_card(replace(read_card(folder), name=name), folder)
    with pytest.raises(UserError, match="name"):
        import_model(folder, overwrite=True)
    assert [p.name for p in home.iterdir()] == ["precious"]


def test_a_card_cannot_name_files_elsewhere(folder: Path, home: Path) -> None:
    (folder.parent / "secret").write_text("x")
    card = read_card(folder)
    write_card(replace(card, sha256={**card.sha256, "../secret": sha256(folder.parent / "secret")}), folder)
    with pytest.raises(UserError, match="secret"):
        import_model(folder)
    assert not home.exists()


def test_shipped_names_are_taken(folder: Path, home: Path) -> None:
    shipped = [ref for ref in list_models() if ref.shipped]
    if not shipped:
        pytest.skip("this tree ships no models")
    write_card(replace(read_card(folder), name=shipped[0].card.name), folder)
    with pytest.raises(UserError, match="comes with the package"):
        import_model(folder, overwrite=True)
    assert not home.exists()


def test_shipped_models_are_what_their_cards_say() -> None:
    shipped = [ref for ref in list_models() if ref.shipped]
    assert DEFAULT_MODEL in [ref.card.name for ref in shipped]
    for ref in shipped:
        verify(ref)
        model = load_model(ref.card.name)
        assert set(ref.card.keypoints) <= set(model.space.keypoints)
        assert model.space == load_space(ref.card.space_name)
        assert ref.card.licence
        assert ref.card.title
        assert all(d.get("licence") for d in ref.card.trained_on)
        assert 0 < ref.card.threshold < 1
