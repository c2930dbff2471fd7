"""SuperAnimal's own models: the list, reading snapshots safely, converting, fetching, bundles."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
import torch

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.model_files import export_model, import_any, verify_model
from napari_superanimal.keypoints import BUILTIN_SPACES
from napari_superanimal.models import zoo
from napari_superanimal.models.load import load_model
from napari_superanimal.models.official.build import build
from napari_superanimal.models.official.catalogue import (
    RELEASES,
    card_of,
    find_release,
    named_file,
    release_of_file,
    scorer,
)
from napari_superanimal.models.official.install import cached, install
from napari_superanimal.models.official.load import load_detector, load_pose
from napari_superanimal.models.official.networks import shapes_of
from napari_superanimal.models.official.snapshot import check_fit, read_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The smallest of them; its snapshot has 9 MB.
SMALL = "superanimal_bird_ssdlite"
SMALL_POSE = "superanimal_quadruped_rtmpose_s"


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of the smallest detector, laid out as DeepLabCut's, with random weights."""
    path = tmp_path_factory.mktemp("snapshot") / f"{SMALL}.pt"
    torch.manual_seed(0)
    with torch.no_grad():
        torch.save({"model": build(release(SMALL)).state_dict(), "metadata": {"epoch": 7}}, path)
    return path


def release(name: str):  # type: ignore[no-untyped-def]
    found = find_release(name)
    assert found is not None
    return found


def test_every_superanimal_is_there_with_its_space_and_licence() -> None:
    assert {r.dataset for r in RELEASES} == set(BUILTIN_SPACES)
    assert len({r.name for r in RELEASES}) == len(RELEASES) == 17
    for one in RELEASES:
        card = card_of(one)
        assert bool(card.keypoints) == (one.kind == "pose")
        assert ("research only" in card.licence) != one.coco
        assert card.licence in card.markdown()
        if one.kind == "pose":
            assert find_release(card.detector["name"]) is not None


def test_they_are_listed_before_they_are_here(home: Path) -> None:
    models = {ref.card.name: ref for ref in zoo.list_models()}
    assert not models["superanimal_quadruped_hrnet_w32"].here
    assert models[zoo.DEFAULT_MODEL].here
    assert SMALL in {ref.card.name for ref in zoo.list_detectors()} - models.keys()
    with pytest.raises(UserError, match="models fetch superanimal_quadruped_hrnet_w32"):
        load_pose(zoo.find_model("superanimal_quadruped_hrnet_w32"))


def test_names_with_files() -> None:
    found = named_file("superanimal_quadruped_hrnet_w32:C:/models/a.pt")
    assert found is not None
    assert (found[0].name, found[1].as_posix()) == ("superanimal_quadruped_hrnet_w32", "C:/models/a.pt")
    assert named_file("C:/models/a.pt") is None
    assert named_file("superanimal_quadruped_hrnet_w32") is None
    short = named_file("ssdlite:a.pt", "superanimal_bird")
    assert short is not None
    assert short[0].name == SMALL


def test_predictions_are_named_as_the_reference_names_them() -> None:
    pose, box = "superanimal_quadruped_hrnet_w32", "superanimal_quadruped_fasterrcnn_resnet50_fpn_v2"
    assert scorer(pose, box) == "superanimal_quadruped_hrnet_w32_fasterrcnn_resnet50_fpn_v2"
    assert scorer(pose, SMALL) == f"{pose}_{SMALL}"
    assert scorer("mine", "mine") == "mine"


def test_rtmpose_x_has_the_published_size() -> None:
    with torch.device("meta"):
        network = build(release("superanimal_humanbody_rtmpose_x"))
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 49.43


def test_torchvisions_own_detectors_have_their_layers(home: Path, tmp_path: Path) -> None:
    """Its COCO files name some layers as older versions did; they are converted on the way."""
    from torchvision.models import detection

    one = release("superanimal_humanbody_fasterrcnn_mobilenet_v3_large_fpn")
    made = build(one)
    path = tmp_path / "coco.pth"
    own = {k.removeprefix("model."): v for k, v in made.state_dict().items()}
    old = {k.replace("rpn.head.conv.0.0.", "rpn.head.conv."): v for k, v in own.items()}
    old = {k.replace("fpn.inner_blocks.0.0.", "fpn.inner_blocks.0."): v for k, v in old.items()}
    assert old.keys() != own.keys()
    torch.save(old, path)
    ref = cached(one, path)
    assert torch.equal(
        load_detector(ref).network.state_dict()["model.rpn.head.conv.0.0.weight"],
        own["rpn.head.conv.0.0.weight"],
    )
    weights = detection.FasterRCNN_MobileNet_V3_Large_FPN_Weights.DEFAULT
    assert weights.url.endswith(".pth")


class Trap:
    """Runs a command when it is unpickled carelessly."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_nothing_in_a_snapshot_is_ever_run(tmp_path: Path) -> None:
    mark, path = tmp_path / "was-run", tmp_path / "trap.pt"
    torch.save({"model": {"a": torch.zeros(1)}, "metadata": Trap(mark)}, path)
    with pytest.raises(UserError, match="refused: the file holds more than weights") as caught:
        read_snapshot(path)
    assert caught.value.path == path
    assert not mark.exists()


def test_old_snapshots_with_numpy_metrics_are_read(tmp_path: Path) -> None:
    metadata = {"epoch": np.int64(190), "metrics": {"test.mAP": np.float64(0.5), "loss": np.float32(1)}}
    torch.save({"model": {"a": torch.ones(2)}, "metadata": metadata}, tmp_path / "old.pt")
    found = read_snapshot(tmp_path / "old.pt")
    assert found.epoch == 190
    assert found.tensors["a"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file"),
        (b"not a snapshot", "damaged"),
        (b"PK\x03\x04 half a zip", "damaged"),
        (b"", "damaged"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_files_that_are_no_snapshots(
    tmp_path: Path, content: bytes | None, problem: str, suffix: str
) -> None:
    path = tmp_path / f"x{suffix}"
    if content is not None:
        path.write_bytes(content)
    if suffix == ".safetensors" and content is not None:
        problem = "cannot be read"
    with pytest.raises(UserError, match=problem):
        read_snapshot(path)


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, {"model": {"a": 3}}, {"epoch": 3}])
def test_snapshots_without_weights(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"no weights|not a tensor"):
        read_snapshot(tmp_path / "x.pt")


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    expected = {"conv.weight": (8, 3, 3, 3), "conv.bias": (8,), "bn.weight": (8,), "bn.count": ()}
    tensors = {"conv.weight": torch.zeros(8, 3, 1, 1), "conv.bias": torch.zeros(8), "extra": torch.zeros(1)}
    with pytest.raises(UserError) as caught:
        check_fit(tensors, expected, "some_model", tmp_path / "x.pt")
    text = str(caught.value)
    assert "2 missing (bn.weight, bn.count)" in text
    assert "1 unexpected (extra)" in text
    assert "conv.weight is 8x3x1x1, not 8x3x3x3" in text
    whole = {name: torch.zeros(shape) for name, shape in expected.items()}
    check_fit(whole, expected, "some_model", tmp_path)
    whole["bn.weight"][3] = torch.nan
    with pytest.raises(UserError, match="numbers that are none"):
        check_fit(whole, expected, "some_model", tmp_path)


def test_a_snapshot_of_another_model_is_refused(home: Path, snapshot: Path) -> None:
    with pytest.raises(UserError, match="does not fit superanimal_quadruped_rtmpose_s"):
        zoo.find_model(f"superanimal_quadruped_rtmpose_s:{snapshot}")
    assert not (home / "models").exists()


def test_a_snapshot_is_converted_once_and_verified_ever_after(home: Path, snapshot: Path) -> None:
    ref = zoo.find_model(f"{SMALL}:{snapshot}")
    assert ref.card.source["sha256"] == hashlib.sha256(snapshot.read_bytes()).hexdigest()
    assert ref.card.source["epoch"] == 7
    weights = ref.folder / "detector.safetensors"
    made = weights.stat().st_mtime_ns
    assert zoo.find_model(f"{SMALL}:{snapshot}").folder == ref.folder
    assert weights.stat().st_mtime_ns == made
    want = torch.load(snapshot, weights_only=True)["model"]
    got = load_detector(ref).network.state_dict()
    assert all(torch.equal(got[k], want[k]) for k in want)
    flip_a_bit(weights)
    with pytest.raises(UserError, match="does not match its card"):
        load_detector(ref)
    again = zoo.find_model(f"{SMALL}:{snapshot}")  # the copy is made anew from the file that the user named
    assert verify_model(again) == {"detector.safetensors": "ok"}


def test_import_trusts_the_first_file_and_refuses_another(home: Path, snapshot: Path, tmp_path: Path) -> None:
    (ref,) = import_any(snapshot)
    assert ref.folder == home / "models" / SMALL
    assert next(r for r in zoo.list_detectors() if r.card.name == SMALL).here
    assert import_any(f"{SMALL}:{snapshot}")[0].card == ref.card
    other = tmp_path / "other.pt"
    content = torch.load(snapshot, weights_only=True)
    content["model"]["model.head.classification_head.module_list.0.1.bias"] += 1
    torch.save(content, other)
    with pytest.raises(UserError, match="which of SuperAnimal's models"):
        import_any(other)
    with pytest.raises(UserError, match="another checksum"):
        import_any(f"{SMALL}:{other}")
    assert verify_model(zoo.find_model(SMALL)) == {"detector.safetensors": "ok"}
    import_any(f"{SMALL}:{other}", overwrite=True)
    assert zoo.find_model(SMALL).card.source["file"] == "other.pt"


def test_a_bundle_goes_to_another_computer(
    home: Path, snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_any(snapshot)
    bundle = export_model(zoo.find_model(SMALL), tmp_path / "bundle.zip")
    with pytest.raises(UserError, match="not on this computer"):
        export_model(zoo.find_model("superanimal_bird_resnet_50"), tmp_path / "nothing.zip")
    assert not (tmp_path / "nothing.zip").exists()
    monkeypatch.setenv("SUPERANIMAL_HOME", str(tmp_path / "elsewhere"))
    assert not zoo.find_model(SMALL).here
    (ref,) = import_any(bundle)
    assert ref.folder == tmp_path / "elsewhere" / "models" / SMALL
    load_detector(ref)


def test_a_pose_model_takes_its_detector_along(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the smallest pose model, and the detector that its card names replaced by the smallest too."""
    torch.manual_seed(1)
    for name in ("superanimal_quadruped_rtmpose_s", "superanimal_quadruped_ssdlite"):
        torch.save({"model": build(release(name)).state_dict()}, tmp_path / f"{name}.pt")
        import_any(tmp_path / f"{name}.pt")
    card = home / "models" / "superanimal_quadruped_rtmpose_s" / "card.json"
    content = json.loads(card.read_text())
    card.write_text(json.dumps({**content, "detector": {"name": "superanimal_quadruped_ssdlite"}}))
    bundle = export_model(zoo.find_model("superanimal_quadruped_rtmpose_s"), tmp_path / "bundle.zip")
    monkeypatch.setenv("SUPERANIMAL_HOME", str(tmp_path / "elsewhere"))
    names = [ref.card.name for ref in import_any(bundle)]
    assert names == ["superanimal_quadruped_rtmpose_s", "superanimal_quadruped_ssdlite"]
    pose = zoo.find_model(names[0])
    assert zoo.detector_of(pose) == zoo.find_model(names[1])
    load_pose(pose)
    # a bundle whose detector is here already
    shutil.rmtree(pose.folder)
    assert [ref.card.name for ref in import_any(bundle)] == names
    with pytest.raises(UserError, match="is a detector, not a pose"):
        load_pose(zoo.find_model(names[1]))
    with pytest.raises(UserError, match="cannot be trained on"):
        load_model(names[0])


def test_a_model_of_mine_may_not_hide_an_official_one(home: Path) -> None:
    folder = home / "models" / SMALL
    folder.mkdir(parents=True)
    (folder / "card.json").write_text('{"name": "superanimal_bird_ssdlite"}')
    with pytest.raises(UserError, match="a model of yours has the name"):
        zoo.find_model(SMALL)


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as a download needs; the first answer breaks off before its end."""

    payload: ClassVar[bytes] = b""
    commit = "0123456789abcdef0123456789abcdef01234567"
    ranges: ClassVar[list[str | None]] = []
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._head(200, len(self.payload))

    def do_GET(self) -> None:
        if "/resolve/" not in self.path:
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        rest = self.payload[start:]
        self._head(206 if asked else 200, len(rest), start)
        if len(self.ranges) == 1:
            rest = rest[: len(rest) * 3 // 4]
            self.close_connection = True
        self.wfile.write(rest)

    def _head(self, status: int, length: int, start: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", f'"{hashlib.sha256(self.payload).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            end = len(self.payload)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """Address of a hub with a snapshot of the smallest pose model: the client keeps a broken download in steps of
    10 MB, so it must be larger than the smallest detector's."""
    path = tmp_path / "upload.pt"
    torch.manual_seed(2)
    torch.save({"model": build(release(SMALL_POSE)).state_dict()}, path)
    Hub.payload, Hub.ranges = path.read_bytes(), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def command(words: list[str], tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with a home of its own."""
    own = {
        "SUPERANIMAL_HOME": str(tmp_path / "home"),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
    }
    clean = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("HF_")}
    line = [sys.executable, "-m", "napari_superanimal.cli", *words]
    return subprocess.run(
        line, env={**clean, **own, **variables}, capture_output=True, text=True, timeout=300
    )


def test_fetching_goes_on_after_a_break_and_records_what_came(tmp_path: Path, hub: str) -> None:
    words = ["models", "fetch", SMALL_POSE, "--json", str(tmp_path / "out.json")]
    done = command(words, tmp_path, HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stderr
    assert "for research only" in done.stderr
    first, second = Hub.ranges
    assert first is None
    assert second is not None
    assert int(second.removeprefix("bytes=").rstrip("-")) >= 10_000_000
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["revision"] == Hub.commit
    assert result["sha256"] == hashlib.sha256(Hub.payload).hexdigest()
    folder = tmp_path / "home" / "models" / SMALL_POSE
    assert {p.name for p in folder.iterdir()} == {"card.json", "pose.safetensors"}


def test_without_a_network_one_line_says_what_to_do(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub.constants as constants

    from napari_superanimal.cli import main

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    assert main(["models", "fetch", SMALL]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    for word in (SMALL, "HTTPS_PROXY", f"models import {SMALL}:FILE", "mouse-topview-mini"):
        assert word in error[0]
    assert not (home / "models" / SMALL).exists()


def test_a_file_that_is_not_the_released_one_is_not_taken(
    home: Path, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the checksum is known beforehand."""
    from dataclasses import replace

    from napari_superanimal.models.official import catalogue, hub

    strict = replace(release(SMALL), sha256="0" * 64)
    monkeypatch.setattr(catalogue, "release_of_card", lambda _: strict)
    monkeypatch.setattr(hub, "_from_hub", lambda *_: (snapshot, {}))
    with pytest.raises(UserError, match="not the one that was released"):
        hub.fetch(zoo.find_model(SMALL))
    assert not zoo.find_model(SMALL).here


def test_files_named_as_on_the_hub_are_known() -> None:
    from pathlib import PurePosixPath

    known = release_of_file(PurePosixPath("rtmpose-x_simcc-body7.pt"))  # type: ignore[arg-type]
    assert known is not None
    assert known.name == "superanimal_humanbody_rtmpose_x"
    assert release_of_file(PurePosixPath("mine.pt")) is None  # type: ignore[arg-type]


def test_the_finest_branch_is_the_same_without_the_others() -> None:
    """Dropping what leads to the coarse branches of HRNet changes no number."""
    torch.manual_seed(0)
    network = build(release("superanimal_topviewmouse_hrnet_w32")).eval()
    crops = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = network(crops).heatmaps
        network.prune()  # type: ignore[operator]
        assert torch.equal(network(crops).heatmaps, before)
    assert len(shapes_of(network)) < 1832


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_install_keeps_what_is_here_when_it_fails(home: Path, snapshot: Path, tmp_path: Path) -> None:
    ref = install(release(SMALL), snapshot, {})
    bad = tmp_path / "bad.pt"
    torch.save({"model": {"a": torch.zeros(1)}}, bad)
    with pytest.raises(UserError, match="does not fit"):
        install(release(SMALL), bad, {}, overwrite=True)
    assert zoo.find_model(SMALL).card == ref.card
    assert verify_model(ref) == {"detector.safetensors": "ok"}
