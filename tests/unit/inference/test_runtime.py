"""Engines: the same keypoints from torch and OpenVINO, in float32 and bfloat16, and which one is taken."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from napari_superanimal.errors import UserError
from napari_superanimal.inference.build import build_predictor
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.inference.runtime import self_test
from napari_superanimal.inference.runtime.clock import busy_seconds, elsewhere
from napari_superanimal.inference.runtime.engine import EXACT, Engine, engines, first_engine, has_openvino
from napari_superanimal.inference.runtime.fold import fold_batch_norms
from napari_superanimal.inference.runtime.memory import in_batches, is_out_of_memory
from napari_superanimal.inference.runtime.ready import ready, ready_detector
from napari_superanimal.inference.runtime.self_test import choose_engine
from napari_superanimal.models.official.build import build
from napari_superanimal.models.official.catalogue import find_release
from napari_superanimal.models.zoo import find_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_superanimal.models.load import LoadedModel

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(not has_openvino(), reason="the extra openvino is not installed")


@pytest.fixture(autouse=True)
def own_cache(home: Path, one_thread: None) -> Path:
    """Converted networks go to a folder of the test."""
    return home / "cache"


def settled(network: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms with statistics as after a training, so that folding has something to do."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            for name, value in (("weight", 0.9), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
                tensor = getattr(module, name)
                with torch.no_grad():
                    tensor.copy_(value + 0.1 * torch.rand_like(tensor))
    return network.eval()


def official(name: str) -> nn.Module:
    release = find_release(name)
    assert release is not None
    torch.manual_seed(1)
    return settled(build(release))


def norms(network: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d) for m in network.modules())


def values(output: Any) -> list[torch.Tensor]:
    return [each for each in output if each is not None]


@torch.inference_mode()
def test_folding_takes_every_batch_norm_away_and_changes_nothing() -> None:
    network = official("superanimal_quadruped_rtmpose_s")
    folded = copy.deepcopy(network)
    before = norms(network)
    assert fold_batch_norms(folded) == before > 30
    assert norms(folded) == 0
    crops = torch.randn(2, 3, 256, 256)
    for one, two in zip(network(crops), folded(crops), strict=True):
        assert one.std() > 1e-3
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-3)


@torch.inference_mode()
def test_activations_in_norms_padding_shared_layers_and_other_readers_survive_folding() -> None:
    from timm.layers import BatchNormAct2d, Conv2dSame

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # pads by the size of what comes in, which tracing must not look into
            self.conv, self.norm = Conv2dSame(3, 4, 3, stride=2, bias=False), BatchNormAct2d(4)
            self.twice, self.both = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            self.read, self.again = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(self.conv(x))
            x = self.both(self.twice(self.both(self.twice(x))))
            y = self.read(x)
            return self.again(y) + y

    network = settled(Odd())
    folded = copy.deepcopy(network)
    assert fold_batch_norms(folded) == 1
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(network(x), folded(x), atol=1e-5, rtol=1e-5)
    assert (network.norm(network.conv(x)) >= 0).all()


@torch.inference_mode()
def test_frozen_norms_of_a_detector_are_folded() -> None:
    network = official("superanimal_bird_fasterrcnn_mobilenet_v3_large_fpn")
    made = ready_detector(network, EXACT)
    assert norms(network.model.backbone) > norms(made.model.backbone) == 0
    picture = torch.randn(1, 3, 64, 96)
    for one, two in zip(
        network.model.backbone(picture).values(), made.model.backbone(picture).values(), strict=True
    ):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-3)


@torch.inference_mode()
def test_bfloat16_ends_in_float32(tiny_model: Callable[..., LoadedModel]) -> None:
    network = settled(tiny_model().pose)
    made = ready(network, Engine("torch", "bf16"), size=(32, 32))
    assert made.network.heatmaps.weight.dtype == torch.float32
    assert torch.equal(made.network.heatmaps.weight, network.heatmaps.weight)
    assert made.network.mix[0].weight.dtype == torch.bfloat16
    crops = torch.randn(3, 3, 32, 32)
    exact, other = network(crops), made(crops)
    assert type(other) is type(exact)
    for one, two in zip(exact, other, strict=True):
        assert two.dtype == torch.float32
        assert (one - two).abs().max() < 0.1 * one.std() + 0.02
    # bits that bfloat16 does not have
    assert not torch.equal(other.heatmaps, other.heatmaps.bfloat16().float())


@needs_openvino
@torch.inference_mode()
def test_openvino_gives_the_same_in_batches_of_any_size(
    tiny_model: Callable[..., LoadedModel], own_cache: Path
) -> None:
    network = settled(tiny_model().pose)
    made = ready(network, Engine("openvino"), size=(32, 32))
    assert made.config is network.config
    for n in (1, 5, 2):
        crops = torch.randn(n, 3, 32, 32).to(memory_format=torch.channels_last)
        exact, other = network(crops), made(crops)
        assert type(other) is type(exact)
        for one, two in zip(exact, other, strict=True):
            torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-3)
    (folder,) = (own_cache / "openvino").iterdir()
    stamp = (folder / "network.xml").stat().st_mtime_ns
    again = ready(network, Engine("openvino"), size=(32, 32))
    torch.testing.assert_close(again(crops).heatmaps, exact.heatmaps, atol=1e-4, rtol=1e-3)
    assert (folder / "network.xml").stat().st_mtime_ns == stamp
    (folder / "network.xml").write_text("damaged", encoding="utf-8")
    mended = ready(network, Engine("openvino"), size=(32, 32))
    torch.testing.assert_close(mended(crops).heatmaps, exact.heatmaps, atol=1e-4, rtol=1e-3)
    # another network is not taken for this one
    with torch.no_grad():
        network.heatmaps.bias += 1
    other = ready(network, Engine("openvino"), size=(32, 32))
    torch.testing.assert_close(other(crops).heatmaps, exact.heatmaps + 1, atol=1e-4, rtol=1e-3)


@needs_openvino
@torch.inference_mode()
def test_openvino_runs_official_networks_with_and_without_offsets() -> None:
    for name, size in (("superanimal_quadruped_rtmpose_s", 256), ("superanimal_bird_ssdlite", 128)):
        network = official(name)
        crops = torch.randn(1, 3, size, size)
        if name.endswith("ssdlite"):
            exact = network.model.backbone(crops)
            made = ready_detector(network, Engine("openvino")).model.backbone
            pairs = list(zip(exact.values(), made(crops).values(), strict=True))
            assert list(made(crops)) == list(exact)
        else:
            pairs = list(
                zip(network(crops), ready(network, Engine("openvino"), size=(size, size))(crops), strict=True)
            )
        for one, two in pairs:
            torch.testing.assert_close(one, two, atol=1e-3, rtol=1e-3)


@needs_openvino
def test_a_detector_finds_the_same_boxes_with_openvino() -> None:
    """Pictures of two sizes: nothing is converted for one size only."""
    from napari_superanimal.models.official.detectors import detect

    network = official("superanimal_quadruped_fasterrcnn_mobilenet_v3_large_fpn")
    # small pictures, few boxes: the point is the way through all four parts
    network.model.transform.min_size, network.model.transform.max_size = (96,), 160  # type: ignore[union-attr, operator]
    network.model.roi_heads.score_thresh = 0.0  # type: ignore[union-attr]
    made = ready_detector(network, Engine("openvino"))
    for size in ((96, 128), (128, 96)):
        picture = torch.randn(1, 3, *size)
        ((boxes, scores),) = detect(network, picture)  # type: ignore[arg-type]
        ((other, likewise),) = detect(made, picture)  # type: ignore[arg-type]
        assert len(boxes) > 5
        assert len(other) == len(boxes)
        torch.testing.assert_close(boxes[:5], other[:5], atol=0.05, rtol=0)
        torch.testing.assert_close(scores[:5], likewise[:5], atol=1e-3, rtol=0)


def test_engines_that_are_asked_for_and_are_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engines(CPU)[-1] == EXACT
    assert engines(CPU, "torch", "fp32") == (EXACT,)
    assert engines(CPU, "torch", "bf16") == (Engine("torch", "bf16"),)
    assert first_engine(CPU) == EXACT
    assert first_engine(CPU, precision="bf16") == Engine("torch", "bf16")
    name = "napari_superanimal.inference.runtime.engine.has_openvino"
    monkeypatch.setattr(name, lambda: False)
    assert all(engine.runtime == "torch" for engine in engines(CPU))
    with pytest.raises(UserError, match="not installed"):
        first_engine(CPU, "openvino")
    monkeypatch.setattr(name, lambda: True)
    with pytest.raises(UserError, match="--device cpu"):
        engines(torch.device("cuda"), "openvino")


class Trial:
    """A predictor whose engines take known times and shift keypoints by known distances."""

    def __init__(self, seconds: dict[Engine, float], shift: dict[Engine, float]) -> None:
        self.device, self.engine = CPU, EXACT
        self.seconds, self.shift = seconds, shift
        self.used: list[Engine] = []

    def use(self, engine: Engine) -> None:
        if self.shift.get(engine) == np.inf:
            raise RuntimeError("not on this computer")
        self.engine = engine
        self.used.append(engine)

    def detect(self, frames: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(np.array([[1.0, 2, 30, 40]]), np.ones(1)) for _ in frames]

    def pose(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self_test.time.sleep(self.seconds[self.engine])
        return np.full((len(boxes), 5, 2), 7.0 + self.shift.get(self.engine, 0.0)), np.ones((len(boxes), 5))


def test_the_fastest_engine_whose_keypoints_agree_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    four = (Engine("openvino", "bf16"), Engine("torch", "bf16"), Engine("openvino"), EXACT)
    monkeypatch.setattr(self_test, "engines", lambda *_: four)
    shots = [np.zeros((60, 80, 3), np.uint8)] * 3
    seconds = dict(zip(four, (0.01, 0.04, 0.08, 0.16), strict=True))
    told: list[Engine] = []
    trial = Trial(seconds, {})
    choice = choose_engine(trial, shots, on_trial=told.append)
    assert choice.engine == trial.engine == four[0]
    assert told == [EXACT, *four[:3]]
    assert "openvino bf16" in str(choice)
    assert "times as fast" in str(choice)
    # the fastest is wrong, the next cannot run
    trial = Trial(seconds, {four[0]: 3.0, four[1]: np.inf})
    choice = choose_engine(trial, shots)
    assert choice.engine == trial.engine == four[2]
    notes = {each.engine: each.note for each in choice.trials}
    assert "move by" in notes["openvino bf16"]
    assert notes["torch bf16"] == "not on this computer"
    # nothing but the exact one agrees
    choice = choose_engine(Trial(seconds, dict.fromkeys(four[:3], 9.0)), shots)
    assert choice.engine == EXACT
    assert choice.to_json()["chosen"] == "torch fp32"
    # one that is hardly faster does not change the order
    choice = choose_engine(Trial({**seconds, four[0]: 0.042}, {}), shots)
    assert choice.engine == four[0]


def test_a_real_predictor_chooses(tiny_model: Callable[..., LoadedModel]) -> None:
    rng = np.random.default_rng(0)
    shots = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(3)]
    predictor = Predictor(tiny_model(), device="cpu")
    choice = choose_engine(predictor, shots, precision="fp32")
    assert choice.engine.precision == "fp32"
    assert predictor.engine == choice.engine
    assert {trial.engine for trial in choice.trials} == {str(e) for e in engines(CPU, precision="fp32")}
    assert all(trial.fits and trial.seconds > 0 and trial.shift_px < 0.01 for trial in choice.trials)


@pytest.mark.parametrize("engine", engines(CPU), ids=str)
def test_keypoints_of_a_shipped_model_do_not_depend_on_the_engine(engine: Engine) -> None:
    from napari_superanimal.demo.render import render_clip

    shots = list(render_clip(4, size=(320, 240), seed=3).frames)
    ref = find_model("mouse-topview-mini")
    exact = build_predictor(ref, device="cpu", precision="fp32", runtime="torch")(shots)
    predictor = build_predictor(ref, device="cpu", precision=engine.precision, runtime=engine.runtime)
    found = predictor(shots)
    assert predictor.engine == engine  # type: ignore[attr-defined]
    np.testing.assert_allclose(found.boxes, exact.boxes, atol=0.01)
    sure = exact.likelihood > 0.5
    assert sure.sum() > 10
    moved = np.linalg.norm(found.xy - exact.xy, axis=-1)[sure]
    assert np.median(moved) < 0.2
    assert moved.max() < 2


def test_batches_are_halved_until_they_fit() -> None:
    done: list[int] = []

    def work(part: slice, most: int = 5) -> None:
        if part.stop - part.start > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        done.extend(range(part.start, part.stop))

    assert in_batches(37, 16, work) == 4
    assert done == list(range(37))
    with pytest.raises(UserError, match="not enough memory"):
        in_batches(3, 8, lambda part: work(part, 0))
    with pytest.raises(RuntimeError, match="shapes"):
        in_batches(3, 8, lambda part: (_ for _ in ()).throw(RuntimeError("shapes do not match")))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"))
    assert not is_out_of_memory(ValueError("out of memory"))


FULL = """
import resource, sys
import numpy as np, torch, psutil
torch.set_num_threads(1)
from napari_superanimal.inference.build import build_predictor
from napari_superanimal.models.zoo import find_model
predictor = build_predictor(find_model("mouse-topview-mini"), device="cpu", batch_size=256)
frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
boxes = np.tile([20.0, 20.0, 60.0, 50.0], (256, 1)) + np.arange(256)[:, None] % 7
expected, _ = predictor.pose([frame] * 16, boxes[:16])
room = psutil.Process().memory_info().vms + 300 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (room, room))
found, _ = predictor.pose([frame] * 256, boxes)
known = np.isfinite(expected[0, :, 0])
assert known.any() and np.isfinite(found[:, known]).all()
assert np.allclose(found[:16, known], expected[:, known], atol=0.05)
print(predictor.batch_size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can limit the memory of a process")
def test_a_real_shortage_of_memory_halves_the_batch() -> None:
    run = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert 1 <= int(run.stdout) < 256
    assert "going on with batches of" in run.stderr


def test_work_in_other_threads_counts() -> None:
    import time

    started = busy_seconds()
    with elsewhere():
        time.sleep(0.05)
    assert 0.04 < busy_seconds() - started < 1.0
