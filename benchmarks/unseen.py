"""Datasets that the shipped models have never seen, each as poses in the model's space and a way to its pictures."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.keypoints import ConversionTable, identity_table, load_table
from napari_superanimal.poses import Poses, make_poses, project
from napari_superanimal.poses.formats import registry
from napari_superanimal.training.samples import FrameReader, read_image
from napari_superanimal.video import open_video

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_superanimal.keypoints import KeypointSpace

#: AnimalPose under the names of AP-10K's table: its elbows are AP-10K's shoulders and hips by position on the body.
ANIMALPOSE = ConversionTable(
    "animalpose",
    (
        ("Nose", "nose"),
        ("L_Eye", "left_eye"),
        ("R_Eye", "right_eye"),
        ("L_EarBase", "left_earbase"),
        ("R_EarBase", "right_earbase"),
        ("Throat", "throat_base"),
        ("Withers", "back_base"),
        ("TailBase", "tail_base"),
        ("L_F_Elbow", "front_left_thai"),
        ("R_F_Elbow", "front_right_thai"),
        ("L_B_Elbow", "back_left_thai"),
        ("R_B_Elbow", "back_right_thai"),
        ("L_F_Knee", "front_left_knee"),
        ("R_F_Knee", "front_right_knee"),
        ("L_B_Knee", "back_left_knee"),
        ("R_B_Knee", "back_right_knee"),
        ("L_F_Paw", "front_left_paw"),
        ("R_F_Paw", "front_right_paw"),
        ("L_B_Paw", "back_left_paw"),
        ("R_B_Paw", "back_right_paw"),
    ),
    "superanimal_quadruped",
)


@dataclass(frozen=True)
class Unseen:
    """A dataset for testing only.

    Attributes
    ----------
    name, what : str
    needs : str
        File in the data folder without which it is left out.
    load : callable
        (data folder, space) to poses in the space and the reader of their pictures.
    """

    name: str
    what: str
    needs: str
    load: Callable[[Path, KeypointSpace], tuple[Poses, FrameReader]]


def alphatracker(data: Path, space: KeypointSpace) -> tuple[Poses, FrameReader]:
    """Two black mice in a home cage: Sloth JSON, animals told apart by order only."""
    names = ("nose", "left_ear", "right_ear", "tail_base")
    folder = data / "mice_pair_alphatracker"
    entries = [
        e for e in json.loads((folder / "train9.json").read_text()) if (folder / e["filename"]).is_file()
    ]
    xy = np.full((len(entries), 2, len(names), 2), np.nan)
    boxes = np.full((len(entries), 2, 4), np.nan)
    for row, entry in enumerate(entries):
        animal, k = -1, 0
        for mark in entry["annotations"]:
            if mark["class"] == "Face":
                animal, k = animal + 1, 0
                boxes[row, animal] = mark["x"], mark["y"], mark["width"], mark["height"]
            else:
                xy[row, animal, k] = mark["x"], mark["y"]
                k += 1
    # who misses a point cannot be told which one it is
    incomplete = ~np.isfinite(xy).all((-1, -2))
    xy[incomplete], boxes[incomplete] = np.nan, np.nan
    images = tuple(e["filename"] for e in entries)
    poses = make_poses(names, xy, boxes=boxes, human=True, images=images, root=folder)
    return project(poses, identity_table(names, space), space), read_image


def from_file(path: str, table: ConversionTable | str | None = None) -> Callable[..., Any]:
    """A dataset that the package reads."""

    def load(data: Path, space: KeypointSpace) -> tuple[Poses, FrameReader]:
        poses = registry.read(data / path)
        chosen = table if isinstance(table, ConversionTable) else None
        chosen = chosen or (load_table(table) if table else identity_table(poses.keypoints, space))
        return project(poses, chosen, space), read_image

    return load


def horse_video(data: Path, space: KeypointSpace, every: int = 4) -> tuple[Poses, FrameReader]:
    """Horse-10's brown horse: row k of the labels is frame k of the video."""
    folder = data / "horse10_video_gt"
    poses = registry.read(folder / "BrownHorseinShadow_gt.h5")
    video = open_video(folder / "BrownHorseinShadow.mp4")
    frame_of = {name: k for k, name in enumerate(poses.images)}
    rows = np.flatnonzero(poses.found.any((1, 2)))
    rows = rows[rows < len(video)][::every]
    chosen = project(poses.take(rows), load_table("horse10"), space)
    return chosen, lambda part, row: video.frame(frame_of[part.images[row]])


class PlainUnpickler(pickle.Unpickler):
    """Dictionaries, lists, texts and numbers only: a pickle from somebody else could run any code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not plain data")


def awa_pose(data: Path, space: KeypointSpace) -> tuple[Poses, FrameReader]:
    """AwA-Pose: one pickle per picture, under the names of the quadruped space; [-1, -1] is absent."""
    folder = data / "quad_awa_pose"
    images, xy, boxes = [], [], []
    for image in sorted((folder / "images").glob("*.jpg")):
        species, first, _ = image.stem.split("_")
        path = folder / "Annotations" / species / f"{species}_{first}.pickle"
        if not path.is_file():
            continue
        animals = PlainUnpickler(io.BytesIO(path.read_bytes())).load()
        marks = animals["a1"]
        at = np.array([marks.get(k) or (-1, -1) for k in space.keypoints], np.float64)
        at[(at < 0).any(-1)] = np.nan
        images.append(f"images/{image.name}")
        xy.append(at[None])
        x0, y0, x1, y1 = marks["bbox"]
        boxes.append([[x0, y0, x1 - x0, y1 - y0]])
    poses = make_poses(space.keypoints, xy, boxes=boxes, human=True, images=tuple(images), root=folder)
    return replace(poses, metadata={"space": space.name, "unmapped": []}), read_image


UNSEEN: dict[str, tuple[Unseen, ...]] = {
    "superanimal_topviewmouse": (
        Unseen(
            "home cage", "two black mice of another lab", "mice_pair_alphatracker/train9.json", alphatracker
        ),
        Unseen(
            "other arenas",
            "four laboratories' mice, the paper's own test pictures",
            "superanimal_topview_gt/annotations/test.json",
            from_file("superanimal_topview_gt/annotations/test.json"),
        ),
    ),
    "superanimal_quadruped": (
        Unseen(
            "walking horse",
            "Horse-10 clip, every fourth frame",
            "horse10_video_gt/BrownHorseinShadow_gt.h5",
            horse_video,
        ),
        Unseen("AwA-Pose", "one photo each of seven species", "quad_awa_pose/Annotations", awa_pose),
        Unseen(
            "AP-10K",
            "two photos",
            "mmpose_samples/ap10k/test_ap10k.json",
            from_file("mmpose_samples/ap10k/test_ap10k.json", "ap10k"),
        ),
        Unseen(
            "AnimalPose",
            "two photos",
            "mmpose_samples/animalpose/test_animalpose.json",
            from_file("mmpose_samples/animalpose/test_animalpose.json", ANIMALPOSE),
        ),
    ),
}
