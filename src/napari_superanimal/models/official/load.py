"""Released models ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import KeypointSpace
from napari_superanimal.models.official.build import PoseNetwork, build_detector, build_pose
from napari_superanimal.models.official.catalogue import release_of_card
from napari_superanimal.models.official.install import weights_file
from napari_superanimal.models.official.networks import fill, shapes_of
from napari_superanimal.models.official.snapshot import check_fit, read_snapshot
from napari_superanimal.models.zoo import ModelRef, verify

if TYPE_CHECKING:
    from torch import nn

    from napari_superanimal.models.card import ModelCard
    from napari_superanimal.models.official.catalogue import Release
    from napari_superanimal.models.official.detectors import ReleasedDetector


@dataclass(frozen=True)
class OfficialPose:
    """A released pose network with its weights; its channels are the keypoints of the space."""

    card: ModelCard
    space: KeypointSpace
    network: PoseNetwork


@dataclass(frozen=True)
class OfficialDetector:
    """A released detector with its weights."""

    card: ModelCard
    network: ReleasedDetector


def load_pose(ref: ModelRef) -> OfficialPose:
    """Build a released pose network on the CPU in float32; its weights are verified against the card first.

    Raises
    ------
    UserError
        If the weights are not here, have changed or do not fit.
    """
    release = _release(ref, "pose")
    network = build_pose(release)
    _fill(network, ref, release)
    return OfficialPose(ref.card, KeypointSpace.from_json(ref.card.space), network)


def load_detector(ref: ModelRef) -> OfficialDetector:
    """Build a released detector on the CPU in float32; its weights are verified against the card first.

    Raises
    ------
    UserError
        If the weights are not here, have changed or do not fit.
    """
    release = _release(ref, "detector")
    network = build_detector(release)
    _fill(network, ref, release)
    return OfficialDetector(ref.card, network)


def _release(ref: ModelRef, kind: str) -> Release:
    release = release_of_card(ref.card)
    if release.kind != kind:
        other = "--model" if kind == "detector" else "--detector"
        raise UserError(
            f"{ref.card.name} is a {release.kind}, not a {kind}", remedy=f"give it as {other} instead"
        )
    if not ref.here:
        raise UserError(
            f"the weights of {ref.card.name} are not on this computer",
            remedy=f"get them with `superanimal models fetch {ref.card.name}`",
        )
    return release


def _fill(network: nn.Module, ref: ModelRef, release: Release) -> None:
    path = ref.folder / weights_file(release)
    if path.name not in ref.card.sha256:
        raise UserError("the card has no checksum of the weights", path=path, remedy="import the model again")
    verify(ref)
    tensors = read_snapshot(path).tensors
    check_fit(tensors, shapes_of(network), release.name, path)
    fill(network, tensors)
