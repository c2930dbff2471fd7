"""File > Open Sample: a rendered mouse in an open field, with or without its true keypoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_superanimal.plugin.conventions import AXES, OURS

if TYPE_CHECKING:
    from napari_superanimal.demo.render import Clip
    from napari_superanimal.plugin.layers import LayerTuple

FRAMES = 300
SIZE = (640, 480)
SEED = 7


def open_field() -> list[LayerTuple]:
    """300 frames of a mouse; they are rendered when they are looked at."""
    return [_image(_clip())]


def open_field_with_truth() -> list[LayerTuple]:
    """The same clip with the 27 keypoints where they really are."""
    from napari_superanimal.plugin.layers import poses_to_layers
    from napari_superanimal.plugin.session import watch_current

    watch_current()
    clip = _clip()
    layers = poses_to_layers(
        clip.truth, name="true keypoints", space="superanimal_topviewmouse", kind="labels"
    )
    return [_image(clip), *layers]


def _clip() -> Clip:
    from napari_superanimal.demo.render import render_clip

    return render_clip(FRAMES, SIZE, seed=SEED)


def _image(clip: Clip) -> LayerTuple:
    from napari_superanimal.plugin.frames import LazyFrames

    data = LazyFrames(len(clip.frames), clip.size, clip.frames.__getitem__, "open field")
    attrs = {
        "name": "open field (rendered)",
        "rgb": True,
        "axis_labels": AXES,
        "cache": False,
        "contrast_limits": (0, 255),
        "metadata": {OURS: {"role": "video", "fps": clip.fps}},
    }
    return data, attrs, "image"
