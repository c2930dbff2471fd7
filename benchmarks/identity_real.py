"""Do individuals keep their identity in a real recording? Three mice, compared with another program's tracks.

python benchmarks/identity_real.py --data DATA [--frames N]

The clip's tracks were made by a machine too: where they differ, either may be wrong.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from common import write_result

from napari_superanimal.evaluation.identity import identity_scores
from napari_superanimal.inference.collect import chunk_poses, join_chunks
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.inference.risk_log import RISKY
from napari_superanimal.inference.stream import PredictionStream
from napari_superanimal.models.load import load_model
from napari_superanimal.models.zoo import find_model
from napari_superanimal.poses import with_boxes
from napari_superanimal.poses.formats import registry
from napari_superanimal.video import open_video

if TYPE_CHECKING:
    from napari_superanimal.poses import Poses

MODEL = "mouse-topview-mini"
CLIP = "videos/EGS8X2MN4SSUGFWAV976"
ANIMALS = 3
#: What both call by different names; only these are compared.
NAMES = {"nose": "nose", "left ear": "left_ear", "right ear": "right_ear", "tail base": "tail_base"}


def known_tracks(path: Path, frames: int) -> Poses:
    """The other program's tracks with our names, and boxes around all of its keypoints."""
    poses = with_boxes(registry.read(path).take(np.arange(frames)))
    return replace(poses, keypoints=tuple(NAMES.get(k, f"their {k}") for k in poses.keypoints))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=1800)
    args = parser.parse_args()
    truth = known_tracks(args.data / f"{CLIP}.h5", args.frames)
    predictor = Predictor(load_model(find_model(MODEL)), max_individuals=ANIMALS, flip=False)
    found, risk = {}, np.zeros((args.frames, ANIMALS))
    with open_video(args.data / f"{CLIP}.mp4") as video:
        for name, track in (("untracked", False), ("tracked", True)):
            chunk = join_chunks(list(PredictionStream(video, predictor, range(args.frames), track=track)))
            found[name] = identity_scores(truth, chunk_poses(predictor, chunk)).to_json()
            risk = chunk.swap_risk
            print(name, found[name], flush=True)
    flagged = risk.max(1) >= RISKY
    switches = found["tracked"]["switch_frames"]
    found["untracked"].pop("switch_frames")
    write_result(
        "identity_real",
        {
            "clip": CLIP,
            "model": MODEL,
            "frames": args.frames,
            "keypoints": sorted(NAMES.values()),
            **found,
            "frames_at_risk": int(flagged.sum()),
            "switches_flagged": sum(bool(flagged[max(0, f - 10) : f + 2].any()) for f in switches),
        },
    )


if __name__ == "__main__":
    main()
