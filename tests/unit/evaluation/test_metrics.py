"""Metrics against COCO's own code, and by hand."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from napari_superanimal.evaluation.evaluate import evaluate_predictions
from napari_superanimal.evaluation.metrics import average_precision, match, oks
from napari_superanimal.keypoints import load_space
from napari_superanimal.poses import Poses, make_poses

SPACE = load_space("superanimal_topviewmouse")
K = len(SPACE)
NOSE, LEFT, TAIL = (SPACE.index(k) for k in ("nose", "left_ear", "tail_base"))


def coco_evaluation(truth: Poses, predicted: Poses) -> COCOeval:
    """COCO's evaluation of the same poses, with the space's sigmas."""
    category = {"id": 1, "name": "mouse", "keypoints": list(SPACE.keypoints), "skeleton": []}
    annotations, results = [], []
    for t in range(len(truth)):
        for a in np.flatnonzero(truth.found[t].any(-1)):
            found = truth.found[t, a]
            points = np.concatenate([np.nan_to_num(truth.xy[t, a]), 2.0 * found[:, None]], -1)
            x, y, w, h = (float(v) for v in truth.boxes[t, a])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": t + 1,
                    "category_id": 1,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "num_keypoints": int(found.sum()),
                    "keypoints": points.ravel().tolist(),
                }
            )
        for a in np.flatnonzero(predicted.found[t].any(-1)):
            # a keypoint that was not predicted is as good as one far away (farther, COCO would find the animal
            # too large to count)
            points = np.where(predicted.found[t, a][:, None], predicted.xy[t, a], 3e4)
            points = np.concatenate([points, np.ones((K, 1))], -1)
            results.append(
                {
                    "image_id": t + 1,
                    "category_id": 1,
                    "keypoints": points.ravel().tolist(),
                    "score": float(np.nanmean(predicted.likelihood[t, a])),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = {
            "info": {},
            "images": [{"id": t + 1} for t in range(len(truth))],
            "annotations": annotations,
            "categories": [category],
        }
        data.createIndex()
        evaluation = COCOeval(data, data.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = SPACE.oks_sigmas()
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def herd(seed: int, rows: int = 12, animals: int = 3, noise: float = 12.0) -> tuple[Poses, Poses]:
    """Labels of several animals per image, and predictions that miss, add, swap and displace some."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(80, 560, (rows, animals, 1, 2))
    xy = centre + rng.normal(0, 25, (rows, animals, K, 2))
    guess = xy + rng.normal(0, 1, xy.shape) * rng.uniform(0, noise, (rows, animals, 1, 1))
    guess = np.concatenate([guess, rng.uniform(0, 640, (rows, 1, K, 2))], 1)
    guess[rng.random(guess.shape[:2]) < 0.15] = np.nan
    guess[rng.random(guess.shape[:3]) < 0.05] = np.nan
    xy[rng.random(xy.shape[:3]) < 0.3] = np.nan
    xy[rng.random(xy.shape[:2]) < 0.1] = np.nan
    xy[:, 0, NOSE] = 300.0
    for t in range(rows):
        guess[t] = guess[t, rng.permutation(animals + 1)]
    sure = rng.uniform(0.1, 1, guess.shape[:3])
    boxes = np.full((rows, animals, 4), np.nan)
    boxes[np.isfinite(xy).all(-1).any(-1)] = [10, 10, 120, 90]
    return make_poses(SPACE.keypoints, xy, boxes=boxes), make_poses(SPACE.keypoints, guess, likelihood=sure)


@pytest.mark.parametrize("seed", range(4))
def test_oks_and_map_are_those_of_coco(seed: int) -> None:
    truth, predicted = herd(seed)
    reference = coco_evaluation(truth, predicted)
    for t in range(len(truth)):
        animals = np.flatnonzero(truth.found[t].any(-1))
        seen = np.flatnonzero(predicted.found[t].any(-1))
        area = np.prod(truth.boxes[t, animals, 2:], axis=-1)
        ours = oks(truth.xy[t, animals], predicted.xy[t, seen], area, SPACE.oks_sigmas())
        theirs = np.asarray(reference.ious[(t + 1, 1)]).reshape(-1, len(animals))
        order = np.argsort(-np.nanmean(predicted.likelihood[t, seen], axis=-1), kind="stable")
        np.testing.assert_allclose(ours[:, order].T, theirs, atol=1e-9)
    precision = reference.eval["precision"][:, :, 0, 0, 0]
    expected = float(precision.mean())
    assert 0.05 < expected < 0.95, "neither perfect nor hopeless, or the test shows nothing"
    assert evaluate_predictions(truth, predicted, SPACE).map == pytest.approx(expected, abs=1e-6)


def test_oks_by_hand() -> None:
    sigma, area = 0.1, 400.0
    truth = np.array([[[0.0, 0], [10, 0], [np.nan, np.nan]]])
    guess = np.array([[[3.0, 4], [np.nan, np.nan], [5, 5]]])
    expected = np.exp(-25 / (2 * area * (2 * sigma) ** 2)) / 2
    assert oks(truth, guess, np.array([area]), np.full(3, sigma))[0, 0] == pytest.approx(expected)


def test_average_precision_by_hand() -> None:
    perfect = [np.eye(2), np.eye(1)]
    assert average_precision(perfect, [np.array([0.9, 0.8]), np.array([0.7])]) == pytest.approx(1)
    # a false animal that is surest spoils precision, one that is least sure does not
    wrong = [np.array([[0.0, 1.0]])]
    assert average_precision(wrong, [np.array([0.9, 0.5])]) == pytest.approx(0.5)
    assert average_precision(wrong, [np.array([0.2, 0.5])]) == pytest.approx(1)
    # found at OKS 0.72: right at 0.50, 0.55, 0.60, 0.65, 0.70
    assert average_precision([np.array([[0.72]])], [np.array([0.9])]) == pytest.approx(0.5)
    assert average_precision([np.empty((2, 0))], [np.empty(0)]) == 0
    assert np.isnan(average_precision([], []))


def test_matching_looks_at_all_animals_together() -> None:
    # each for itself would both take the first
    assert match(np.array([[0.9, 0.8], [0.85, 0.1]])) == [(0, 1), (1, 0)]
    assert match(np.array([[0.2, 0.7, 0.1]])) == [(0, 1)]


def one(points: dict[int, tuple[float, float]], rows: int = 1) -> np.ndarray:
    xy = np.full((rows, 1, K, 2), np.nan)
    for k, at in points.items():
        xy[:, 0, k] = at
    return xy


def test_figures_by_hand() -> None:
    """Box 100 by 64: its root is 80, so PCK counts up to 4 px and 8 px."""
    labels = one({NOSE: (50, 50), LEFT: (60, 50), TAIL: (90, 50)}, rows=2)
    guess = labels.copy()
    guess[0, 0, NOSE] += [3, 0]
    guess[0, 0, LEFT] += [0, 4]
    guess[0, 0, TAIL] += [3, 4]
    guess[1, 0, NOSE] += [12, 5]
    guess[1, 0, TAIL] = np.nan
    boxes = np.tile([10.0, 20, 100, 64], (2, 1, 1))
    report = evaluate_predictions(
        make_poses(SPACE.keypoints, labels, boxes=boxes),
        make_poses(SPACE.keypoints, guess, likelihood=np.full((2, 1, K), 0.6)),
        SPACE,
    )
    told = report.to_json()
    distances = np.array([3.0, 4, 5, 13, 0])
    assert told["n_images"] == told["n_individuals"] == 2
    assert told["n_keypoints"] == 6
    assert told["missed"] == 1
    assert told["mean_error_px"] == pytest.approx(distances.mean())
    assert told["rmse_px"] == pytest.approx(np.sqrt((distances**2).mean()))
    assert told["median_error_px"] == pytest.approx(4)
    # the missed keypoint counts as wrong
    assert told["pck"] == {"0.05": pytest.approx(3 / 6), "0.1": pytest.approx(4 / 6)}
    nose = told["per_keypoint"]["nose"]
    assert nose["n"] == 2
    assert nose["mean_error_px"] == pytest.approx(8)
    assert nose["pck"]["0.1"] == pytest.approx(0.5)
    assert nose["mean_likelihood"] == pytest.approx(0.6)
    tail = told["per_keypoint"]["tail_base"]
    assert (tail["mean_error_px"], tail["mean_likelihood"]) == (pytest.approx(5), pytest.approx(0.3))
    assert set(told["per_keypoint"]) == {"nose", "left_ear", "tail_base"}
    assert told["never_predicted"] == []


def test_keypoints_the_model_never_gives_are_left_out_and_named() -> None:
    labels = one({NOSE: (50, 50), TAIL: (90, 50)})
    guess = one({NOSE: (50, 52), LEFT: (60, 60)})
    told = evaluate_predictions(
        make_poses(SPACE.keypoints, labels), make_poses(SPACE.keypoints, guess), SPACE
    ).to_json()
    assert told["never_predicted"] == ["tail_base"]
    assert (told["n_keypoints"], told["missed"]) == (1, 0)
    assert told["pck"]["0.1"] == 1.0


def test_a_model_that_finds_no_animal_has_missed_all() -> None:
    """Finding nothing at all must not look like nothing to find."""
    labels = make_poses(SPACE.keypoints, one({NOSE: (50, 50), TAIL: (90, 50)}, rows=3))
    nothing = make_poses(SPACE.keypoints, one({}, rows=3))
    told = evaluate_predictions(labels, nothing, SPACE).to_json()
    assert (told["n_images"], told["n_individuals"], told["missed"]) == (3, 3, 6)
    assert told["pck"] == {"0.05": 0.0, "0.1": 0.0}
    assert told["map"] == 0.0
    assert told["mean_error_px"] is None


def test_unlabelled_keypoints_and_images_do_not_count() -> None:
    labels = one({NOSE: (50, 50), TAIL: (90, 50)}, rows=3)
    visibility = np.full((3, 1, K), 2)
    visibility[0, 0, TAIL] = 0
    visibility[1] = -1
    told = evaluate_predictions(
        make_poses(SPACE.keypoints, labels, visibility=visibility),
        make_poses(SPACE.keypoints, labels + 1),
        SPACE,
    ).to_json()
    assert (told["n_images"], told["n_keypoints"]) == (2, 3)


def test_animals_may_come_in_any_order() -> None:
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 100, (4, 3, K, 2)) + np.array([0, 300, 600]).reshape(3, 1, 1)
    labels = make_poses(SPACE.keypoints, xy)
    straight = evaluate_predictions(labels, make_poses(SPACE.keypoints, xy + 1), SPACE)
    turned = evaluate_predictions(labels, make_poses(SPACE.keypoints, xy[:, [2, 0, 1]] + 1), SPACE)
    assert turned.to_json() == straight.to_json()
    assert straight.to_json()["mean_error_px"] == pytest.approx(np.sqrt(2))
    assert straight.map == pytest.approx(1)


def test_an_animal_too_many_or_too_few() -> None:
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 100, (1, 2, K, 2)) + np.array([0, 400]).reshape(2, 1, 1)
    both, first = make_poses(SPACE.keypoints, xy), make_poses(SPACE.keypoints, xy[:, :1])
    more = evaluate_predictions(first, both, SPACE).to_json()
    assert (more["n_individuals"], more["missed"], more["mean_error_px"]) == (1, 0, 0)
    fewer = evaluate_predictions(both, first, SPACE).to_json()
    assert (fewer["n_individuals"], fewer["missed"], fewer["mean_error_px"]) == (2, K, 0)
    assert fewer["pck"]["0.1"] == 0.5


def test_rows_and_keypoints_must_be_the_same() -> None:
    a = make_poses(SPACE.keypoints, one({NOSE: (1, 1)}))
    with pytest.raises(ValueError, match="same rows"):
        evaluate_predictions(a, make_poses(SPACE.keypoints, one({NOSE: (1, 1)}, rows=2)), SPACE)
    with pytest.raises(ValueError, match="same rows"):
        evaluate_predictions(a, make_poses(("nose",), np.ones((1, 1, 2))), SPACE)
