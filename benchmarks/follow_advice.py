"""What happens when one follows the advice of `superanimal check`: figures before and after, on the same frames.

Used by check_videos.py. Frames are the bursts that adaptation keeps for its proof (at most six of 24 neighbours), so
that jitter can be measured, and nothing is learned from them by `adapt`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import evenly
from PIL import Image

from napari_superanimal.adaptation.adapt import AdaptSettings
from napari_superanimal.adaptation.bursts import choose_bursts
from napari_superanimal.adaptation.predict import predict_bursts
from napari_superanimal.evaluation.evaluate import evaluate_predictions
from napari_superanimal.evaluation.jitter import steadiness
from napari_superanimal.inference.build import build_predictor
from napari_superanimal.jobs.adapt import AdaptOptions, adapt_files
from napari_superanimal.jobs.check import MOST
from napari_superanimal.jobs.scale_choice import apply_scales
from napari_superanimal.jobs.trials import measure, prepare, run_one
from napari_superanimal.keypoints import ConversionTable, load_space, load_table
from napari_superanimal.models.load import load_model
from napari_superanimal.models.zoo import find_model
from napari_superanimal.poses import Poses, project, with_boxes
from napari_superanimal.poses.formats import registry
from napari_superanimal.smoothing import SmoothOptions, clean, find_problems, smooth
from napari_superanimal.video import open_video

if TYPE_CHECKING:
    from napari_superanimal.inference.frame_predictor import FramePredictor
    from napari_superanimal.jobs.check_advice import Advice

MOUSE, QUADRUPED = "superanimal_topviewmouse", "superanimal_quadruped"
#: Steps of a fine-tuning, a third of what `superanimal finetune` takes: enough to see whether it helps.
STEPS = 200
#: Last part of a labelled video that fine-tuning is measured on.
TEST_SHARE = 0.35


def mapped(name: str, space: str, **pairs: str) -> ConversionTable:
    """A conversion table of a few names."""
    return ConversionTable(name, tuple((k.replace("_", " "), v) for k, v in pairs.items()), space)


@dataclass(frozen=True)
class Truth:
    """Labels of a video.

    Attributes
    ----------
    path : str
        In the data folder.
    what : str
        Who made them, and what of them counts.
    tables : dict of str to ConversionTable
        By space: how their names become those of the models.
    animals : int
        How many there are.
    first_is_zero : bool
        Row k shows frame k, whatever its picture is called.
    """

    path: str
    what: str
    animals: int = 1
    tables: dict[str, ConversionTable] = field(default_factory=dict)

    def read(self, data: Path, space: str) -> Poses:
        """On the video's frame numbers, in a model's space, frames without a label left out."""
        poses = registry.read(data / self.path)
        frames = poses.frames if poses.is_video else np.arange(len(poses))
        # an animal is as large as all its labels tell, not only those that the model knows
        poses = project(with_boxes(poses), self.tables[space], load_space(space))
        rows = np.flatnonzero(poses.found.any((1, 2)))
        return replace(
            poses.take(rows), frames=frames[rows], images=(), root=None, sources=(), splits=(), ids=()
        )


TRUTHS = {
    "BrownHorseinShadow.mp4": Truth(
        "horse10_video_gt/BrownHorseinShadow_gt.h5",
        "a person's labels (of the mouse model's keypoints only the nose)",
        tables={QUADRUPED: load_table("horse10"), MOUSE: mapped("horse", MOUSE, Nose="nose")},
    ),
    "EGS8X2MN4SSUGFWAV976.mp4": Truth(
        "videos/EGS8X2MN4SSUGFWAV976.h5",
        "another program's tracks, not a person's labels (nose, ears and tail base count)",
        animals=3,
        tables={
            MOUSE: mapped(
                "mabe", MOUSE, nose="nose", left_ear="left_ear", right_ear="right_ear", tail_base="tail_base"
            ),
            QUADRUPED: mapped(
                "mabe q",
                QUADRUPED,
                nose="nose",
                left_ear="left_earbase",
                right_ear="right_earbase",
                tail_base="tail_base",
            ),
        },
    ),
}
#: What is known of the others.
ANIMALS = {"m3v1mp4.mp4": 1, "DogRun.mp4": 1, **{name: truth.animals for name, truth in TRUTHS.items()}}


class Follower:
    """Follows advice on one video.

    Parameters
    ----------
    path : Path
        The video.
    data : Path
        Where its labels are, if it has any.
    """

    def __init__(self, path: Path, data: Path) -> None:
        self.path, self.data = path, data
        self.truth = TRUTHS.get(path.name)
        with open_video(path) as video:
            self.bursts = choose_bursts(len(video)).held
        self.known = ANIMALS[path.name]
        self._plain: dict[tuple[str, int], tuple[Poses, dict[str, Any]]] = {}
        self._done: dict[tuple[str, ...], dict[str, Any]] = {}

    def predictor(self, model: str | Path, animals: int = 0, **options: Any) -> FramePredictor:
        return build_predictor(
            find_model(model), max_individuals=animals or self.known, device="cpu", **options
        )

    def predicted(self, predictor: FramePredictor, *, scales: Any = "single") -> Poses:
        with open_video(self.path) as video:
            frames = range(len(video))
            chosen, _ = apply_scales(predictor, scales, video, frames)
            return predict_bursts(chosen, video, self.bursts)

    def plain(self, model: str, animals: int = 0) -> tuple[Poses, dict[str, Any]]:
        """A model as it is, with as many animals as there are: predictions and figures."""
        if (model, animals) not in self._plain:
            poses = self.predicted(self.predictor(model, animals))
            self._plain[model, animals] = poses, self.figures(poses, model)
        return self._plain[model, animals]

    def figures(self, poses: Poses, model: str) -> dict[str, Any]:
        """What can be measured of predictions on the bursts."""
        card = find_model(model).card
        own = [poses.keypoints.index(k) for k in card.keypoints]
        steady = steadiness(poses)
        with np.errstate(invalid="ignore"):
            sure = (poses.likelihood[poses.present][:, own] >= card.threshold).mean()
        found: dict[str, Any] = {
            "frames": len(poses),
            "frames_with_an_animal": float(poses.present.any(1).mean()),
            "animals_per_frame": float(poses.present.sum(1).mean()),
            "sure": float(sure),
            "jitter": steady.jitter_relative,
        }
        return {**found, **self.accuracy(poses, card.space_name)}

    def accuracy(self, poses: Poses, space: str) -> dict[str, Any]:
        """Error and share right (within a tenth of the animal's size) on the labels, where there are any.

        A keypoint without a prediction, on an animal that was not found for instance, counts as wrong;
        ``right_of_found`` leaves those out, as what check expects of the animal that it looks at.
        """
        if self.truth is None:
            return {}
        labels = self.truth.read(self.data, space)
        frames, ours, theirs = np.intersect1d(poses.frames, labels.frames, return_indices=True)
        if not len(frames):
            return {}
        report = evaluate_predictions(labels.take(theirs), poses.take(ours), load_space(space)).to_json()
        labelled, found = report["n_keypoints"], report["n_keypoints"] - report["missed"]
        right = report["pck"]["0.1"]
        return {
            "right": right,
            "right_of_found": right * labelled / found if found else None,
            "error_px": report["mean_error_px"],
            "labels": labelled,
            "missed": report["missed"],
        }

    def follow(self, advice: Advice, model: str) -> dict[str, Any] | None:
        """Do what is advised; None for advice that asks for nothing."""
        ways = {
            "predict": self.predict,
            "use-model": self.use_model,
            "individuals": self.individuals,
            "scales": self.other_scales,
            "whole-frame": self.whole_frame,
            "adapt": self.adapt,
            "smooth": self.smooth,
            "label": self.label,
        }
        if advice.action not in ways:
            return None
        key = (model, advice.action, advice.topic if advice.action == "smooth" else "")
        if key not in self._done:
            self._done[key] = ways[advice.action](advice, model)
        return self._done[key]

    def predict(self, _: Advice, model: str) -> dict[str, Any]:
        return {"did": "predicted", "after": self.plain(model)[1]}

    def use_model(self, advice: Advice, model: str) -> dict[str, Any]:
        other = str(advice.values["model"])
        return {"did": f"used {other}", "before": self.plain(model)[1], "after": self.plain(other)[1]}

    def individuals(self, _: Advice, model: str) -> dict[str, Any]:
        """As the text says: what one knows is there, instead of all that the detector sees (at most five)."""
        return {
            "did": f"set the number of animals to {self.known}, which is right",
            "before": self.plain(model, MOST)[1],
            "after": self.plain(model)[1],
        }

    def other_scales(self, advice: Advice, model: str) -> dict[str, Any]:
        if not advice.values.get("scales"):
            return {"did": "", "why_not": "asks for another film, or another cut of it"}
        poses = self.predicted(self.predictor(model), scales="auto")
        return {
            "did": "predicted with --scales auto",
            "before": self.plain(model)[1],
            "after": self.figures(poses, model),
        }

    def whole_frame(self, _: Advice, model: str) -> dict[str, Any]:
        poses = self.predicted(self.predictor(model, 1, detector="whole-frame"))
        return {
            "did": "switched the detector off",
            "before": self.plain(model)[1],
            "after": self.figures(poses, model),
        }

    def smooth(self, advice: Advice, model: str) -> dict[str, Any]:
        """Swaps and outliers mended, and, where the text asks for it, smoothed by the default method."""
        before, figures = self.plain(model)
        after, did = clean(before, find_problems(before)), "cleaned up"
        if advice.topic == "steadiness":
            after, did = smooth(after, SmoothOptions()), "cleaned up and smoothed"
        return {"did": did, "before": figures, "after": self.figures(after, model)}

    def adapt(self, _: Advice, model: str) -> dict[str, Any]:
        """`superanimal adapt` with its defaults; the labels stay unknown to it."""
        settings = AdaptSettings(max_individuals=self.known)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "adapted"
            outcome = adapt_files(
                [self.path], AdaptOptions(model=model, out=out, settings=settings, device="cpu")
            )
            where = out if outcome.kept else out / "rejected"
            after = None
            if outcome.trained:
                poses = self.predicted(self.predictor(where))
                after = self.figures(poses, model)
        return {
            "did": f"adapted: {outcome.decision}",
            "reasons": list(outcome.reasons),
            "kept": outcome.kept,
            "before": self.plain(model)[1],
            "after": after,
        }

    def label(self, advice: Advice, model: str) -> dict[str, Any]:
        """Fine-tune on so many labelled frames of the first part, measure on the last, boxes from the labels."""
        if self.truth is None:
            return {"did": "", "why_not": "nobody has labelled this video"}
        if "frames" not in advice.values:
            return {"did": "", "why_not": "asks to look, not to do"}
        count = int(advice.values["frames"])
        table = self.truth.tables[find_model(model).card.space_name]
        with tempfile.TemporaryDirectory() as folder:
            poses = self._pictures(Path(folder))
            trials = prepare(poses, load_model(model), table, test_share=TEST_SHARE)
            rows = evenly(len(trials.training), count)
            before = measure(trials, trials.model, trials.table)
            after = run_one(trials, "replay", 0, Path(folder) / "model", steps=STEPS, rows=rows)
        return {
            "did": f"fine-tuned on {len(rows)} labelled frames of the first part ({STEPS} steps)",
            "measured_on": f"the last {100 * TEST_SHARE:.0f} % of the labelled frames, boxes from the labels",
            "before": {"right": before["pck"], "error_px": before["error_px"], "frames": len(trials.test)},
            "after": {"right": after["pck"], "error_px": after["error_px"], "frames": len(trials.test)},
        }

    def _pictures(self, folder: Path) -> Poses:
        """The labels under their own names, with the frames as pictures."""
        assert self.truth is not None
        poses = registry.read(self.data / self.truth.path)
        rows = np.flatnonzero(poses.found.any((1, 2)))
        names = tuple(f"{row:05d}.png" for row in rows)
        with open_video(self.path) as video:
            rows = rows[rows < len(video)]
            for row, name in zip(rows, names, strict=False):
                Image.fromarray(video.frame(int(row))).save(folder / name)
        return replace(poses.take(rows), images=names[: len(rows)], root=folder)


def paid(result: dict[str, Any], animals: int) -> str:
    """Whether following the advice helped, in a word or two; empty where it cannot be told.

    Labels decide where there are any; else jitter, sure points and frames with an animal, none of which may get worse.
    Advice on the number of animals helps where afterwards it is nearer to that in the video: where more are predicted
    than there are, labels would choose the best of them.
    """
    before, after = result.get("before"), result.get("after")
    if not before or not after:
        return ""
    if result["action"] == "individuals":
        off = [abs(f["animals_per_frame"] - animals) for f in (before, after)]
        return "no difference" if abs(off[0] - off[1]) < 0.05 else "yes" if off[1] < off[0] else "no"
    better = _better(before, after)
    if result.get("kept") is False:
        return "reverted, would have helped" if better == "yes" else "reverted, rightly"
    return better


def _better(before: dict[str, Any], after: dict[str, Any]) -> str:
    if before.get("right") is not None and after.get("right") is not None:
        if abs(after["right"] - before["right"]) > 0.005:
            return "yes" if after["right"] > before["right"] else "no"
        return "yes" if after["error_px"] < 0.98 * before["error_px"] else "no difference"
    gains = [
        before["jitter"] - after["jitter"],
        after["sure"] - before["sure"],
        after["frames_with_an_animal"] - before["frames_with_an_animal"],
    ]
    tiny = 0.005
    if all(abs(g) <= tiny for g in gains):
        return "no difference"
    if min(gains) >= -tiny:
        return "yes"
    return "no" if max(gains) <= tiny else "mixed"
