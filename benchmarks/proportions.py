"""Do proportions tell right keypoints from parts of the body that are called by others' names?

    python benchmarks/proportions.py --data DATA

Adaptation asks this before it learns (`adaptation.bodies`). Labels of animals that the shipped models were trained on,
of held-out ones and of other data sets must fit; so must what the models are sure of on three clips. Then names of
keypoints are exchanged there, one pair (on both sides of the body) at a time: steady, sure, and wrong from every side.
Rendered mice, which turn round within their own length, have true points: none of them may be called odd.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from common import number, table, write_result
from evaluate_minis import MODELS, RECIPES, datasets

from napari_superanimal.adaptation.adapt import AdaptSettings, plan
from napari_superanimal.adaptation.bodies import believed_bodies, odd_points
from napari_superanimal.adaptation.teacher import look
from napari_superanimal.adaptation.trust import FEWEST_TOLD, ODD
from napari_superanimal.demo.render import random_style, render_clip
from napari_superanimal.models.known import known_proportions
from napari_superanimal.models.load import load_model
from napari_superanimal.poses.proportions import FAR, ROOM
from napari_superanimal.video import open_video

if TYPE_CHECKING:
    from napari_superanimal.adaptation.bodies import OddPoints
    from napari_superanimal.models.load import LoadedModel
    from napari_superanimal.poses.proportions import Proportions

#: Frames of a clip that are looked at, and looks.
FRAMES, VIEWS = 84, 4
#: Rendered mice, frames of each, and frames that a short proof has.
MICE, LENGTH, SHORT = 60, 240, 16
CLIPS = {
    "mouse": ("m3v1mp4.mp4", "mouse-topview-mini"),
    "horse": ("BrownHorseinShadow.mp4", "quadruped-sideview-mini"),
    "dog": ("DogRun.mp4", "quadruped-sideview-mini"),
}
#: Exchanged on both sides of the body where they have sides.
EXCHANGES = {
    "mouse-topview-mini": (
        ("nose", "tail_base"),
        ("left_ear", "right_ear"),
        ("left_ear", "tail_base"),
        ("nose", "left_ear"),
        ("nose", "head_midpoint"),
        ("left_ear", "head_midpoint"),
    ),
    "quadruped-sideview-mini": (
        ("nose", "tail_base"),
        ("nose", "left_eye"),
        ("nose", "neck_base"),
        ("front_left_paw", "back_left_paw"),
        ("front_left_knee", "front_left_thai"),
        ("back_left_knee", "back_left_thai"),
        ("back_left_paw", "back_left_knee"),
    ),
}


def exchanged(xy: np.ndarray, model: LoadedModel, pair: tuple[str, str]) -> np.ndarray:
    """Bodies (N, K, 2) with two names exchanged, and those of the other side where that is another pair."""
    order, space = np.arange(xy.shape[1]), model.space
    one, other = (space.index(name) for name in pair)
    pairs = [(one, other)]
    mirrored = int(space.swap[one]), int(space.swap[other])
    if not set(mirrored) & {one, other}:
        pairs.append(mirrored)
    for i, j in pairs:
        order[i], order[j] = j, i
    return xy[:, order]


def figures(odd: OddPoints) -> dict[str, Any]:
    """What adaptation would say."""
    found = bool(odd.wrong()) or (odd.told >= FEWEST_TOLD and odd.share > ODD)
    worst = max(odd.by_pair.items(), key=lambda item: item[1], default=("", float("nan")))
    return {"judged": odd.told, "odd": odd.share, "worst": worst[0], "worst_off": worst[1], "found": found}


def labels(name: str, model: LoadedModel, usual: Proportions, data: Path) -> dict[str, Any]:
    """Labelled animals of held-out and of other data sets."""
    out = {}
    for dataset, _, role, poses, _ in datasets(model, RECIPES / f"{name}.yaml", data):
        odd = odd_points(usual, poses.xy[poses.found.any(-1)])
        if odd.told:
            out[dataset] = {"model": name, "role": role, **figures(odd)}
    return out


def clip(path: Path, model: LoadedModel, usual: Proportions) -> dict[str, Any]:
    """What the model is sure of from every side, as it is and with names exchanged."""
    with open_video(path) as video:
        bursts = plan({"video": video}, AdaptSettings(frames=FRAMES))["video"]
        looks = look(model, video, bursts.learn, views=VIEWS)
    bodies = believed_bodies(model, looks, model.card.threshold)
    return {
        "as it is": figures(odd_points(usual, bodies)),
        **{
            " and ".join(pair): figures(odd_points(usual, exchanged(bodies, model, pair)))
            for pair in EXCHANGES[model.card.name]
        },
    }


def rendered(model: LoadedModel, usual: Proportions) -> dict[str, Any]:
    """True points of rendered mice, by how far their heads are turned; and what short parts of clips look like."""
    names = model.space.keypoints
    clips = []
    for seed in range(MICE):
        style = random_style(np.random.default_rng((77, seed))) if seed % 2 else None
        truth = render_clip(LENGTH, seed=10_000 + seed, style=style).truth
        clips.append(np.where((truth.visibility > 0)[..., None], truth.xy, np.nan)[:, 0])
    every = np.concatenate(clips)
    nose, head, tail = (every[:, names.index(k)] for k in ("nose", "head_midpoint", "tail_base"))
    ahead, trunk = (nose - head) @ [1, 1j], (head - tail) @ [1, 1j]
    turned = np.degrees(np.abs(np.angle(ahead * trunk.conj()))) > 90
    off = usual.distances(every)
    parts = [odd_points(usual, c[i : i + SHORT]) for c in clips for i in range(0, LENGTH, SHORT)]
    return {
        "clips": MICE,
        "frames": LENGTH,
        "turned_share": float(turned.mean()),
        "worst_off": float(np.nanmax(off)),
        "odd": odd_points(usual, every).share,
        "odd_of_turned": odd_points(usual, every[turned]).share,
        "beyond_pair_limit_of_turned": float(np.nanmean(off[turned] > ROOM)),
        "short_frames": SHORT,
        "short_most_odd": max(p.share for p in parts),
        "short_wrong_pairs": float(np.mean([bool(p.wrong()) for p in parts])),
        "clips_wrong_pairs": float(np.mean([bool(odd_points(usual, c).wrong()) for c in clips])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "command": "python benchmarks/proportions.py --data DATA",
        "limits": {"pair": ROOM, "point": FAR, "all": ODD},
        "frames": FRAMES,
        "labels": {},
        "clips": {},
    }
    for name in MODELS:
        model = load_model(name)
        usual = known_proportions(model.card, model.space.keypoints)
        if usual is None:
            print(f"left out: {name} (its card holds no proportions)")
            continue
        result["labels"] |= labels(name, model, usual, args.data)
        if "top" in model.card.view:
            result["rendered"] = rendered(model, usual)
        for title, (file, whose) in CLIPS.items():
            path = args.data / "videos" / file
            if whose == name and path.is_file():
                result["clips"][title] = clip(path, model, usual)
    rows = [
        [
            title,
            what,
            f["judged"],
            number(f["odd"]),
            f["worst"],
            number(f["worst_off"]),
            "found" if f["found"] else "",
        ]
        for title, each in {"labels": result["labels"], **result["clips"]}.items()
        for what, f in each.items()
    ]
    print(table(["", "", "judged", "odd", "worst pair", "off", ""], rows))
    print(result.get("rendered"))
    print(f"written {write_result('proportions', result).name}")


if __name__ == "__main__":
    main()
