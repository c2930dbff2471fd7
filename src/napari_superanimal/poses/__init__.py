"""The data model of labels and predictions."""

from napari_superanimal.poses.boxes import box_iou, boxes_from_keypoints, with_boxes
from napari_superanimal.poses.merge import merge, part_of, unproject
from napari_superanimal.poses.poses import (
    LABELLED,
    OCCLUDED,
    SINGLE,
    UNDEFINED,
    UNLABELLED,
    Poses,
    animal_names,
    make_poses,
)
from napari_superanimal.poses.project import facing, project
from napari_superanimal.poses.swap_risk import joined_risk, risk_rows, swap_risk_of

__all__ = [
    "LABELLED",
    "OCCLUDED",
    "SINGLE",
    "UNDEFINED",
    "UNLABELLED",
    "Poses",
    "animal_names",
    "box_iou",
    "boxes_from_keypoints",
    "facing",
    "joined_risk",
    "make_poses",
    "merge",
    "part_of",
    "project",
    "risk_rows",
    "swap_risk_of",
    "unproject",
    "with_boxes",
]
