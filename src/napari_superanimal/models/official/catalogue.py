"""Which models SuperAnimal has released, and where their weights are. Knows no torch: lists are made with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import load_space
from napari_superanimal.models.card import ModelCard

Kind = Literal["pose", "detector"]

QUADRUPED = "superanimal_quadruped"
TOPVIEWMOUSE = "superanimal_topviewmouse"
BIRD = "superanimal_bird"
HUMANBODY = "superanimal_humanbody"

REPOSITORIES = {
    QUADRUPED: "mwmathis/DeepLabCutModelZoo-SuperAnimal-Quadruped",
    TOPVIEWMOUSE: "mwmathis/DeepLabCutModelZoo-SuperAnimal-TopViewMouse",
    BIRD: "DeepLabCut/DeepLabCutModelZoo-SuperAnimal-Bird",
    HUMANBODY: "DeepLabCut/HumanBody",
}

#: The lightest detector, which every SuperAnimal has.
DEFAULT_DETECTOR = "fasterrcnn_mobilenet_v3_large_fpn"
#: The reference takes boxes that score at least this much.
BOX_SCORE = 0.6
#: The reference draws keypoints that are at least this likely.
DRAWN_LIKELIHOOD = 0.1

#: In a card's ``detector``: the released detector that a fine-tuned model's own one was made from.
OWN_RELEASE = "release"

RESEARCH_ONLY = (
    "for research only: weights of the SuperAnimal authors, non-commercial (CC BY-NC 4.0 where they state one); "
    "not part of this software, read https://huggingface.co/{repo} before any other use"
)
COCO_LICENCE = "torchvision's weights (BSD-3-Clause), trained on COCO images"

_SUBJECTS = {
    QUADRUPED: ("Quadruped", "quadrupeds", "side, any background"),
    TOPVIEWMOUSE: ("Top-view mouse", "laboratory mice", "top"),
    BIRD: ("Bird", "birds", "any"),
    HUMANBODY: ("Human body", "people", "any"),
}
_ARCHITECTURES = {
    "hrnet_w32": "HRNet-w32, heatmaps of 64x64 cells",
    "resnet_50": "ResNet-50 with group norm, heatmaps of 33x33 cells and offsets",
    "rtmpose_s": "RTMPose-s, coordinates in half pixels",
    "rtmpose_x": "RTMPose-x, coordinates in half pixels",
    "fasterrcnn_resnet50_fpn_v2": "Faster R-CNN, ResNet-50 v2: the most accurate detector, and slow on a CPU",
    "fasterrcnn_resnet50_fpn": "Faster R-CNN, ResNet-50",
    "fasterrcnn_mobilenet_v3_large_fpn": "Faster R-CNN, MobileNet v3: the fast detector",
    "ssdlite": "SSDLite, MobileNet v3, 320x320: the smallest detector",
}


@dataclass(frozen=True)
class Release:
    """One released network.

    Attributes
    ----------
    name : str
        How it is chosen: the SuperAnimal's name and the network's.
    dataset : str
        The SuperAnimal; also the name of its keypoint space.
    architecture : str
        A key of `networks.BUILDERS`.
    kind : {"pose", "detector"}
    file : str
        In the SuperAnimal's repository; empty for torchvision's own weights.
    sha256 : str
        Of that file, where it is known beforehand; otherwise recorded when it is first fetched.
    """

    name: str
    dataset: str
    architecture: str
    kind: Kind
    file: str
    sha256: str = ""

    @property
    def repo(self) -> str:
        """Repository on the Hugging Face hub."""
        return REPOSITORIES[self.dataset]

    @property
    def coco(self) -> bool:
        """A detector of torchvision for 90 kinds of things, of which only people count."""
        return not self.file

    @property
    def keypoints(self) -> tuple[str, ...]:
        """Channels of a pose network, in order."""
        return load_space(self.dataset).keypoints


def _releases() -> tuple[Release, ...]:
    known = {
        "superanimal_topviewmouse_fasterrcnn_mobilenet_v3_large_fpn": (
            "762c92c1ac10182f16dae3259cce631810930e05e19200b21b7d34a251c3f631"
        ),
        "superanimal_topviewmouse_resnet_50": (
            "516820b3bb3255511925fff35232b9ff1de02d8e29bf65ea6fa317a431d1cf12"
        ),
    }
    files = {"superanimal_humanbody_rtmpose_x": "rtmpose-x_simcc-body7.pt"}
    pose = {
        QUADRUPED: ("hrnet_w32", "resnet_50", "rtmpose_s"),
        TOPVIEWMOUSE: ("hrnet_w32", "resnet_50"),
        BIRD: ("resnet_50",),
        HUMANBODY: ("rtmpose_x",),
    }
    light, heavy, small = DEFAULT_DETECTOR, "fasterrcnn_resnet50_fpn_v2", "ssdlite"
    detectors = {
        QUADRUPED: (light, heavy, small),
        TOPVIEWMOUSE: (light, heavy),
        BIRD: (light, small),
        HUMANBODY: (light, "fasterrcnn_resnet50_fpn", heavy),
    }
    found = []
    kinds: tuple[tuple[Kind, dict[str, tuple[str, ...]]], ...] = (("pose", pose), ("detector", detectors))
    for kind, table in kinds:
        for dataset, architectures in table.items():
            for architecture in architectures:
                name = f"{dataset}_{architecture}"
                coco = kind == "detector" and dataset == HUMANBODY
                file = "" if coco else files.get(name, f"{name}.pt")
                found.append(Release(name, dataset, architecture, kind, file, known.get(name, "")))
    return tuple(found)


RELEASES = _releases()


def find_release(name: str, dataset: str = "") -> Release | None:
    """A released network by its name; detectors also without the name of their SuperAnimal `dataset`."""
    for release in RELEASES:
        if release.name == name:
            return release
    for release in RELEASES:
        if release.kind == "detector" and dataset == release.dataset and release.architecture == name:
            return release
    return None


def release_of_file(path: Path) -> Release | None:
    """The released network that a file is named after."""
    for release in RELEASES:
        if path.name == release.file or path.stem == release.name:
            return release
    return None


def named_file(text: str, dataset: str = "") -> tuple[Release, Path] | None:
    """``NAME:FILE`` taken apart, where NAME is a released network; None for anything else."""
    name, colon, file = text.partition(":")
    release = find_release(name, dataset) if colon and file else None
    return None if release is None else (release, Path(file).expanduser())


def scorer(model: str, detector: str) -> str:
    """Name of predictions: the model's and, without repeating the SuperAnimal's name, the detector's.

    ``superanimal_bird_resnet_50_ssdlite``, as the reference calls it.
    """
    if detector == model:
        return model
    first, second = find_release(model), find_release(detector)
    if first is not None and second is not None and first.dataset == second.dataset:
        return f"{model}_{second.architecture}"
    return f"{model}_{detector}"


def release_of_card(card: ModelCard) -> Release:
    """The released network whose weights a model folder holds, or from which it was fine-tuned.

    Raises
    ------
    UserError
        If its card names one that is unknown here.
    """
    release = find_release(card.official)
    if release is None:
        raise UserError(
            f"model {card.name!r} is made for the network {card.official!r}, which is unknown here",
            remedy="update napari-superanimal",
        )
    return release


def card_of(release: Release) -> ModelCard:
    """The card of a released network before its weights are here."""
    subject, animals, view = _SUBJECTS[release.dataset]
    pose = release.kind == "pose"
    licence = COCO_LICENCE if release.coco else RESEARCH_ONLY.format(repo=release.repo)
    task = f"finds {len(release.keypoints)} keypoints" if pose else "finds the animals"
    if release.coco:
        task = "finds people"
    return ModelCard(
        name=release.name,
        title=f"SuperAnimal {subject}, {'pose' if pose else 'detector'}: {release.architecture}",
        summary=f"Official SuperAnimal model; {task}. {_ARCHITECTURES[release.architecture]}.",
        space=load_space(release.dataset).to_json() if pose else {},
        keypoints=release.keypoints if pose else (),
        species=animals,
        view=view,
        licence=licence,
        not_for="anything but research; a measurement you have not checked on labelled frames of your own",
        trained_on=(
            {
                "name": "COCO" if release.coco else f"{release.dataset} datasets",
                "licence": "see their authors",
                "source": "torchvision" if release.coco else f"https://huggingface.co/{release.repo}",
            },
        ),
        pose={"architecture": release.architecture} if pose else {},
        detector={"name": f"{release.dataset}_{DEFAULT_DETECTOR}"}
        if pose
        else {"architecture": release.architecture},
        context=1.0,
        threshold=DRAWN_LIKELIHOOD,
        detector_threshold=BOX_SCORE,
        official=release.name,
    )
