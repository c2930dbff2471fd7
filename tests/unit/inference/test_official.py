"""The reference's crops, decoding and boxes, and SuperAnimal's models in the stream."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_superanimal.errors import UserError
from napari_superanimal.inference.collect import Collector
from napari_superanimal.inference.official.crops import to_frame, top_down_crop
from napari_superanimal.inference.official.decode import decode_heatmaps, decode_simcc
from napari_superanimal.inference.official.detect import BoxFinder
from napari_superanimal.inference.official.images import normalise, unit_range
from napari_superanimal.inference.official.predictor import OfficialPredictor
from napari_superanimal.inference.official.resize import resize_linear
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.inference.stream import PredictionStream, forward_fps
from napari_superanimal.keypoints import KeypointSpace
from napari_superanimal.models.official.build import build
from napari_superanimal.models.official.catalogue import card_of, find_release
from napari_superanimal.models.official.detectors import ReleasedDetector
from napari_superanimal.models.official.load import OfficialDetector, OfficialPose
from napari_superanimal.models.official.networks import LOCREF_STD, HeatmapOutput
from napari_superanimal.models.official.rtmpose import SimccOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_superanimal.models.load import LoadedModel

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pose_model() -> OfficialPose:
    """The smallest pose network with random weights."""
    torch.manual_seed(0)
    release = find_release("superanimal_quadruped_rtmpose_s")
    assert release is not None
    card = card_of(release)
    network = build(release).eval()
    return OfficialPose(card, KeypointSpace.from_json(card.space), network)  # type: ignore[arg-type]


def frames(count: int, height: int = 120, width: int = 160) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def picture() -> np.ndarray:
    y, x = np.mgrid[:480, :640]
    grey = (3 * y + 5 * x + (x * y) // 7) % 256
    return np.stack([grey, 255 - grey, (grey * 3) % 256], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("source", "size", "total", "weighted"),
    [
        ((480, 640), (256, 256), 25037916, 819584532050),
        ((37, 53), (256, 256), 25059391, 820898783741),
        ((256, 300), (288, 384), 42253553, 1367911786125),
        ((3, 5), (256, 256), 19257886, 632949472653),
        ((1, 1), (256, 256), 16711680, 547349413950),
        ((400, 400), (200, 200), 15323640, 463489773011),
        ((255, 257), (256, 256), 25033762, 819753985337),
    ],
)
def test_resizing_gives_opencvs_numbers(
    source: tuple[int, int], size: tuple[int, int], total: int, weighted: int
) -> None:
    """Sums made with OpenCV 5.0: plain, and weighted by place so that no two errors cancel."""
    out = resize_linear(picture()[: source[0], : source[1]], *size).astype(np.int64)
    assert out.shape == (size[1], size[0], 3)
    assert out.sum() == total
    assert (out * (np.arange(out.size).reshape(out.shape) % 65521)).sum() == weighted


def test_crops_are_rounded_padded_and_found_again() -> None:
    frame = picture()
    crop = top_down_crop(frame, np.array([600.4, 450.7, 60.2, 40.1]), (256, 256))
    assert crop is not None
    assert crop.offset.tolist() == [600, 441]
    assert crop.scale.tolist() == [61 / 256, 60 / 256]
    assert not crop.pixels[-1, -1].any()
    corners = to_frame(np.array([[[0.0, 0.0], [256.0, 256.0]]]), [crop])
    assert corners[0].tolist() == [[600, 441], [661, 501]]
    # halves go to the even number: -0.5 and 8.5
    even = top_down_crop(frame, np.array([-0.5, -0.5, 9.0, 9.0]), (256, 256))
    assert even is not None
    assert even.offset.tolist() == [0, 0]
    assert even.scale.tolist() == [8 / 256, 8 / 256]
    tall = top_down_crop(frame, np.array([100, 120, 200, 100]), (288, 384))
    assert tall is not None
    assert tall.pixels.shape == (384, 288, 3)
    assert tall.offset.tolist() == [100, 37]


@pytest.mark.parametrize(
    "box", [[700, 10, 20, 20], [10, 10, 0, 0], [-50, -50, 40, 40], [np.nan, 0, 5, 5], [5, 5, np.inf, 5]]
)
def test_a_box_without_a_picture_has_no_crop(box: list[float]) -> None:
    assert top_down_crop(picture(), np.array(box), (256, 256)) is None


def test_normalisation() -> None:
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    pixels[0, 0, 0] = 255
    pixels.flags.writeable = False
    out = normalise(pixels, CPU)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert out[0, :, 0, 0].tolist() == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-4)
    assert out[0, :, 1, 1].tolist() == pytest.approx([-2.1179, -2.0357, -1.8044], abs=1e-4)
    assert unit_range(pixels, CPU)[0, :, 0, 0].tolist() == [1, 1, 1]


def test_heatmaps_are_decoded_to_cell_centres_and_offsets() -> None:
    heatmaps = torch.zeros(1, 2, 5, 7)
    heatmaps[0, 0, 3, 2], heatmaps[0, 1, 0, 6] = 0.75, 1.5
    xy, score = decode_heatmaps(HeatmapOutput(heatmaps, None), 4)
    assert xy[0].tolist() == [[10, 14], [26, 2]]
    assert score[0].tolist() == [0.75, 1.0]
    offsets = torch.zeros(1, 4, 5, 7)
    offsets[0, :, 3, 2] = torch.tensor([0.5, -1.0, 9, 9])
    offsets[0, 2:, 0, 6] = torch.tensor([0.25, 0.0])
    xy, _ = decode_heatmaps(HeatmapOutput(heatmaps, offsets), 8)
    assert torch.allclose(
        xy[0], torch.tensor([[20 + 0.5 * LOCREF_STD, 28 - LOCREF_STD], [52 + 0.25 * LOCREF_STD, 4]])
    )


def test_half_pixels_are_decoded_and_chance_is_no_keypoint() -> None:
    x, y = torch.zeros(1, 2, 8), torch.zeros(1, 2, 6)
    x[0, 0, 5], y[0, 0, 3] = 1.0, 0.01
    xy, score = decode_simcc(SimccOutput(x, y), (6.0, 6.93))
    assert xy[0, 0].tolist() == [2.5, 1.5]
    # the worse axis counts: exp(0.01 * 6.93 * 150) over five others
    top = np.exp(0.01 * 6.93 * 150)
    assert score[0, 0].item() == pytest.approx(top / (top + 5), rel=1e-4)
    assert torch.isnan(xy[0, 1]).all() == (score[0, 1].item() <= 1 / 8)
    flat = SimccOutput(torch.zeros(1, 1, 8), torch.zeros(1, 1, 16))
    assert torch.isnan(decode_simcc(flat, (6.0, 6.0))[0]).all()
    assert decode_simcc(flat, (6.0, 6.0), reference=True)[0].tolist() == [[[-0.5, -0.5]]]


def test_boxes_do_not_depend_on_what_is_predicted_with_them(
    pose_model: OfficialPose, one_thread: None
) -> None:
    shots = frames(5)
    boxes = np.array(
        [[10, 20, 60, 50], [-30, -10, 80, 90], [500, 500, 9, 9], [0, 0, 160, 120], [3, 3, 20, 90]]
    )
    one = OfficialPredictor(pose_model, detector="whole-frame", device="cpu", batch_size=1)
    many = OfficialPredictor(pose_model, detector="whole-frame", device="cpu", batch_size=8)
    (xy, sure), (xy_many, sure_many) = one.pose(shots, boxes), many.pose(shots, boxes)
    assert np.isnan(xy[2]).all()
    assert np.isnan(sure[2]).all()
    seen = [0, 1, 3, 4]
    np.testing.assert_allclose(sure[seen], sure_many[seen], atol=1e-3)
    # random weights: two half pixels may be equally likely
    close = np.isclose(xy[seen], xy_many[seen], atol=0.01, equal_nan=True).all(-1)
    assert close.mean() > 0.97


def test_an_official_model_streams_like_any_other(pose_model: OfficialPose, one_thread: None) -> None:
    shots = frames(9)
    video = SimpleNamespace(
        iter_frames=lambda start, stop, step: ((i, shots[i]) for i in range(start, stop, step))
    )
    predictor = OfficialPredictor(pose_model, detector="whole-frame", device="cpu")
    collector = Collector(predictor, range(9))
    for chunk in PredictionStream(video, predictor, range(9)):  # type: ignore[arg-type]
        assert len(chunk.frames) <= predictor.chunk_frames
        collector.add(chunk)
    poses = collector.poses()
    assert poses.scorer == "superanimal_quadruped_rtmpose_s_whole-frame"
    assert len(poses) == 9
    expected = predictor(shots).likelihood
    np.testing.assert_allclose(poses.likelihood, expected, atol=1e-3)
    assert forward_fps(predictor, shots[:1], 1, repeats=1) > 0


def test_mirror_averaging_is_not_the_references(pose_model: OfficialPose) -> None:
    with pytest.raises(UserError, match="--flip"):
        OfficialPredictor(pose_model, detector="whole-frame", flip=True)


@pytest.fixture(scope="module")
def ssdlite() -> Iterator[OfficialDetector]:
    torch.manual_seed(3)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    release = find_release("superanimal_bird_ssdlite")
    assert release is not None
    network = build(release).eval()
    assert isinstance(network, ReleasedDetector)
    yield OfficialDetector(card_of(release), network)
    torch.set_num_threads(before)


def test_faint_boxes_are_left_out_unless_the_reference_is_wanted(ssdlite: OfficialDetector) -> None:
    """The reference asks SSDLite for 0.6, which the network ignores."""
    shots = [*frames(2), *frames(1, 90, 60)]
    ours, theirs = BoxFinder(ssdlite, CPU), BoxFinder(ssdlite, CPU, reference=True)
    assert (ours.threshold, theirs.threshold) == (0.6, 0.0)
    found = theirs(shots, 7)
    assert [len(b) for b, _ in found] == [7, 7, 7]
    for boxes, scores in found:
        assert boxes.dtype == np.float32
        assert (np.diff(scores) <= 0).all()
        assert scores[-1] < 0.6
        assert (boxes[:, 2:] > 0).all()
    for (boxes, scores), (kept, good) in zip(found, ours(shots, 7), strict=True):
        np.testing.assert_array_equal(kept, boxes[scores >= 0.6])
        assert (good >= 0.6).all()


def test_frames_are_normalised_twice_but_not_for_torchvisions_own(ssdlite: OfficialDetector) -> None:
    white = [np.full((4, 4, 3), 255, np.uint8)]
    finder = BoxFinder(ssdlite, CPU)
    assert finder.prepare(white).amax().item() == pytest.approx(2.64, abs=1e-4)
    assert list(finder._network.model.transform.image_mean) == [0.5, 0.5, 0.5]
    several = frames(3)
    here = finder.prepare(several)
    finder.frames_on_device = True
    assert torch.equal(finder.prepare(several), here)
    finder._coco = True
    assert finder.prepare(white).amax().item() == 1.0


def test_detectors_and_models_of_both_families_go_together(
    pose_model: OfficialPose, ssdlite: OfficialDetector, tiny_model: Callable[..., LoadedModel]
) -> None:
    shots = frames(2)
    finder = BoxFinder(ssdlite, CPU, reference=True)
    small = Predictor(tiny_model(), detector=finder, max_individuals=2, device="cpu")
    assert small.scorer.endswith("_superanimal_bird_ssdlite")
    assert np.isfinite(small(shots).boxes).all()
    other = Predictor(tiny_model(detector_threshold=0.0), max_individuals=2, device="cpu")
    mixed = OfficialPredictor(pose_model, detector=other, max_individuals=2, device="cpu")
    found = mixed(shots)
    assert found.xy.shape == (2, 2, 39, 2)
    np.testing.assert_allclose(found.boxes, other(shots).boxes, rtol=1e-5)
    both = OfficialPredictor(pose_model, detector=finder, max_individuals=3, device="cpu")
    assert np.isfinite(both(shots).box_scores).all()
    assert forward_fps(both, shots, 1, repeats=1) > 0


def test_scales_are_chosen_with_detectors_of_their_own(
    pose_model: OfficialPose, ssdlite: OfficialDetector, one_thread: None
) -> None:
    """Untrained networks agree with nobody, themselves included: what is chosen is one of the sets, and is recorded."""
    from napari_superanimal.inference.pyramid import PyramidPredictor, scales_to_try
    from napari_superanimal.inference.survey import candidates, survey

    predictor = OfficialPredictor(
        pose_model, detector=BoxFinder(ssdlite, CPU), max_individuals=2, device="cpu"
    )
    scales = scales_to_try(predictor.card)
    shots = frames(2)
    found = survey(predictor, shots, scales)
    assert found.frames == 2
    assert found.scales in [*candidates(scales), scales]
    assert found.limit >= 0
    assert len(found.tried) >= 1
    assert PyramidPredictor(predictor, scales)(shots).xy.shape == (2, 2, 39, 2)
