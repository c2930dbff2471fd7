"""Poses drawn into their video or images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_superanimal.jobs.progress import Cancelled, CancelToken, Meter, ProgressCallback

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from napari_superanimal.jobs.frames import ImageFrames
    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.poses import Poses
    from napari_superanimal.video import Video


def draw_row(
    frame: npt.NDArray[np.uint8], poses: Poses, row: int, space: KeypointSpace, threshold: float
) -> npt.NDArray[np.uint8]:
    """A copy of a frame with one row of `poses` in it.

    Parameters
    ----------
    frame : (H, W, 3) uint8 RGB
    space : KeypointSpace
        Gives colours and skeleton; its keypoints are those of `poses`.
    threshold : float
        Keypoints with a lower likelihood are left out.
    """
    from napari_superanimal.video.draw import draw_poses

    return draw_poses(
        frame,
        poses.xy[row],
        poses.likelihood[row],
        space.edges,
        space.colors,
        threshold,
        boxes=poses.boxes[row],
    )


def annotate_video(
    video: Video,
    poses: Poses,
    frames: range,
    space: KeypointSpace,
    path: Path,
    *,
    threshold: float,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> Path:
    """Write a video of `frames` with the poses drawn in, at the speed of life; one row of `poses` per frame.

    Raises
    ------
    UserError
        If the video cannot be read or the file not written.
    Cancelled
        If the token was set; no file is left then.
    """
    from napari_superanimal.video.write import VideoWriter

    height, width = int(video.shape[1]), int(video.shape[2])
    meter = Meter(len(frames))
    with VideoWriter(path, video.fps / frames.step, (width, height)) as writer:
        numbered = video.iter_frames(frames.start, frames.stop, frames.step)
        for row, (_, frame) in enumerate(numbered):
            if token is not None and token.cancelled:
                raise Cancelled
            writer.write(draw_row(frame, poses, row, space, threshold))
            if on_progress is not None:
                on_progress(meter.at(row + 1, f"drawing {path.name}"))
    return path


def annotate_images(
    images: ImageFrames,
    poses: Poses,
    frames: range,
    space: KeypointSpace,
    folder: Path,
    *,
    names: Sequence[str],
    threshold: float,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> Path:
    """Write a folder of pictures with the poses drawn in; one name (without suffix) per row of `poses`.

    Raises
    ------
    UserError
        If an image cannot be read or a picture not written.
    Cancelled
        If the token was set; pictures drawn so far stay.
    """
    from napari_superanimal.video.draw import write_png

    meter = Meter(len(frames))
    for row, number in enumerate(frames):
        if token is not None and token.cancelled:
            raise Cancelled
        drawn = draw_row(images.frame(number), poses, row, space, threshold)
        write_png(folder / f"{names[row]}.png", drawn)
        if on_progress is not None:
            on_progress(meter.at(row + 1, f"drawing into {folder.name}"))
    return folder
