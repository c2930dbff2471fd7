"""Released networks by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_superanimal.models.official.networks import HRNetPose, ResNetPose
from napari_superanimal.models.official.rtmpose import RTMPOSE_S, RTMPOSE_X, RTMPose

if TYPE_CHECKING:
    from torch import nn

    from napari_superanimal.models.official.catalogue import Release
    from napari_superanimal.models.official.detectors import ReleasedDetector

PoseNetwork = HRNetPose | ResNetPose | RTMPose


def build_pose(release: Release, keypoints: int | None = None) -> PoseNetwork:
    """A released pose network without its weights, with its own number of keypoints or another."""
    keypoints = len(release.keypoints) if keypoints is None else keypoints
    if release.architecture == "hrnet_w32":
        return HRNetPose(keypoints)
    if release.architecture == "resnet_50":
        return ResNetPose(keypoints)
    return RTMPose(RTMPOSE_S if release.architecture == "rtmpose_s" else RTMPOSE_X, keypoints)


def build_detector(release: Release) -> ReleasedDetector:
    """A released detector without its weights."""
    from napari_superanimal.models.official.detectors import ReleasedDetector

    return ReleasedDetector(release.architecture, coco=release.coco)


def build(release: Release) -> nn.Module:
    """A released network without its weights."""
    return build_pose(release) if release.kind == "pose" else build_detector(release)
