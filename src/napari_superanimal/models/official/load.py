"""Released models, and models fine-tuned from them, ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import KeypointSpace
from napari_superanimal.models.official.build import PoseNetwork, build_detector, build_pose
from napari_superanimal.models.official.catalogue import OWN_RELEASE, find_release, release_of_card
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
    """A released pose network, or one fine-tuned from it, with its weights.

    Attributes
    ----------
    network : HRNetPose, ResNetPose or RTMPose
        Its channels are ``card.keypoints``.
    detector : OfficialDetector or None
        For fine-tuning, where the detector that the card names is here; predictors are given theirs.
    """

    card: ModelCard
    space: KeypointSpace
    network: PoseNetwork
    detector: OfficialDetector | None = None

    @property
    def pose(self) -> PoseNetwork:
        """The network, under the name that models of the other family have for it."""
        return self.network

    @property
    def calibration(self) -> dict[str, Any]:
        """Empty: likelihood is the network's own score."""
        return {}


@dataclass(frozen=True)
class OfficialDetector:
    """A released detector, or one fine-tuned from it, with its weights; the card may be that of its pose model."""

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
    network = build_pose(release, len(ref.card.keypoints))
    _fill(network, ref, release)
    return OfficialPose(ref.card, KeypointSpace.from_json(ref.card.space), network)


def load_detector(ref: ModelRef) -> OfficialDetector:
    """Build a released detector on the CPU in float32; its weights are verified against the card first.

    Also that of a fine-tuned model which has a detector of its own.

    Raises
    ------
    UserError
        If the weights are not here, have changed or do not fit.
    """
    release = detector_release(ref) or _release(ref, "detector")
    network = build_detector(release)
    _fill(network, ref, release)
    return OfficialDetector(ref.card, network)


def detector_release(ref: ModelRef) -> Release | None:
    """The released detector that a fine-tuned model's own one comes from; None for models without one of their own."""
    name = ref.card.detector.get(OWN_RELEASE)
    if not name:
        return None
    release = find_release(str(name))
    if release is None or release.kind != "detector":
        raise UserError(
            f"the detector of {ref.card.name!r} is made from {name!r}, which is unknown here",
            path=ref.folder,
            remedy="update napari-superanimal",
        )
    return release


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
    check_fit(tensors, shapes_of(network), ref.card.name, path)
    fill(network, tensors)
