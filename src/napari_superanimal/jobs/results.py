"""From the chunks of a source to its files: a table in the memory of a few hundred frames."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.jobs import run_card
from napari_superanimal.jobs.files import write_text
from napari_superanimal.jobs.frames import ImageFrames
from napari_superanimal.jobs.plain_json import write_json
from napari_superanimal.jobs.predict_plan import PredictOptions, Task, open_source
from napari_superanimal.jobs.progress import Cancelled, CancelToken, ProgressCallback
from napari_superanimal.jobs.reference import PAD, shorten, write_boxes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_superanimal.inference.chunk import Chunk
    from napari_superanimal.inference.frame_predictor import FramePredictor
    from napari_superanimal.jobs.chunks import ChunkFile
    from napari_superanimal.poses import Poses

#: Frames of a table in memory at once.
PART = 512


@dataclass(frozen=True)
class Results:
    """The finished frames of a source, read from the disk whenever they are needed."""

    task: Task
    chunks: ChunkFile
    predictor: FramePredictor

    def __len__(self) -> int:
        return self.chunks.frames

    def parts(self, **metadata: Any) -> Iterator[Poses]:
        """The finished frames in order, some hundred at a time."""
        from napari_superanimal.inference.collect import join_chunks

        waiting: list[Chunk] = []
        for chunk in self.chunks.read():
            waiting.append(chunk)
            if sum(len(each.frames) for each in waiting) >= PART:
                yield self._poses(join_chunks(waiting), metadata)
                waiting = []
        if waiting:
            yield self._poses(join_chunks(waiting), metadata)

    def whole(self, **metadata: Any) -> Poses:
        """All of them at once, for what cannot be written part by part."""
        from napari_superanimal.inference.collect import join_chunks

        return self._poses(join_chunks(list(self.chunks.read())), metadata)

    def _poses(self, chunk: Chunk, metadata: dict[str, Any]) -> Poses:
        from napari_superanimal.inference.collect import chunk_poses

        task = self.task
        fields = {"path": str(task.source.path), "threshold": task.card["thresholds"]["likelihood"]}
        poses = chunk_poses(self.predictor, chunk, **{**fields, **metadata})
        poses = replace(poses, scorer=task.card["scorer"])
        if task.source.is_video:
            return poses
        folder = task.targets["dlc-h5"].parent.resolve()
        images = tuple(_relative(task.source.images[i], folder) for i in poses.frames)
        return replace(poses, images=images, root=folder, frames=np.arange(len(poses)))

    def risk_rows(self) -> dict[str, list[Any]]:
        """Every frame and individual with a swap risk; pictures are counted as they stand in the files."""
        from napari_superanimal.poses import risk_rows

        def parts() -> Iterator[tuple[Any, Any]]:
            at = 0
            for chunk in self.chunks.read():
                count = len(chunk.frames)
                yield (
                    chunk.frames if self.task.source.is_video else np.arange(at, at + count),
                    chunk.swap_risk,
                )
                at += count

        return risk_rows(parts(), self.predictor.individuals)

    def summary(self) -> dict[str, Any]:
        """What the run card says of all frames: quality, and where individuals may have been exchanged."""
        from napari_superanimal.inference.risk_log import RiskLog

        risk = RiskLog(self.predictor.individuals)
        for chunk in self.chunks.read():
            risk.add(chunk.frames, chunk.swap_risk)
        quality = run_card.quality(self.parts(), self.predictor.card.threshold)
        return {"quality": quality, "swap_risk": risk.to_json()}


def _relative(image: Path, folder: Path) -> str:
    """An image's path from the folder of the results, so that both can be moved together."""
    try:
        return Path(os.path.relpath(image.resolve(), folder)).as_posix()
    except ValueError:  # another drive
        return image.resolve().as_posix()


def write_results(
    results: Results,
    card: dict[str, Any],
    options: PredictOptions,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> tuple[Path, ...]:
    """Write what was done, the run card last; nothing if nothing was done.

    Drawing takes as long as reading the video: it tells how far it is and can be cancelled. The predictions are written
    then, the card says "cancelled", and a run that resumes only draws.

    Raises
    ------
    UserError
        If a file cannot be written; the chunks stay, and with them everything that was predicted.
    """
    if not len(results):
        return ()
    try:
        return _write(results, card, options, on_progress, token)
    except UserError as error:
        if options.reference:
            raise
        raise UserError(
            error.problem,
            path=error.path,
            remedy=f"the predictions are kept in {results.chunks.path.name}: free space, then go on with --resume",
        ) from error


def _write(
    results: Results,
    card: dict[str, Any],
    options: PredictOptions,
    on_progress: ProgressCallback | None,
    token: CancelToken | None,
) -> tuple[Path, ...]:
    from napari_superanimal.poses.formats.dlc_stream import write_dlc_csv_parts, write_dlc_h5_parts
    from napari_superanimal.poses.formats.registry import write

    task, files = results.task, list[Path]()
    replacing = options.overwrite or options.resume
    risk = results.risk_rows()
    notes = {"swap_risk": {**card["swap_risk"], "rows": risk}}
    streamed: dict[str, Any] = {"dlc-h5": write_dlc_h5_parts, "dlc-csv": write_dlc_csv_parts}
    if not task.source.is_video or options.reference:
        streamed = {}
    # only these need all frames in memory
    poses = results.whole(**notes) if task.targets.keys() - streamed.keys() else None
    if options.reference and poses is not None:
        poses = shorten(poses)
        card["frames_written"] = len(poses)
    for name, path in task.targets.items():
        if name in streamed:
            files += streamed[name](partial(results.parts, **notes), path, overwrite=replacing)
        elif poses is None or name == "annotated":
            continue
        elif name == "reference":
            files.append(write_boxes(poses, task.targets["dlc-h5"]))
        else:
            padding = {"missing": PAD} if options.reference and name.startswith("dlc-") else {}
            files += write(poses, path, name, overwrite=replacing, **padding)
    if "annotated" in task.targets and poses is not None and card["status"] == run_card.COMPLETE:
        try:
            files.append(_annotate(results, poses, card["thresholds"]["likelihood"], on_progress, token))
        except Cancelled:
            card["status"] = run_card.CANCELLED
    files += _write_risk(results, card, risk)
    path = run_card.card_path(task.targets["dlc-h5"])
    card["files"] = [file.name for file in files]
    write_json(path, card)
    return (*files, path)


def _write_risk(results: Results, card: dict[str, Any], rows: dict[str, list[Any]]) -> list[Path]:
    """A row per frame and individual that may have been exchanged; no file where there is none."""
    path = results.task.targets["dlc-h5"].with_suffix(".swap_risk.csv")
    if not card["swap_risk"]["frames"]:
        path.unlink(missing_ok=True)  # of an earlier run
        return []
    entries = zip(*rows.values(), strict=True)
    lines = [",".join(rows), *(f"{frame},{name},{value:.3f}" for frame, name, value in entries)]
    write_text(path, "\n".join(lines) + "\n")
    return [path]


def _annotate(
    results: Results,
    poses: Poses,
    threshold: float,
    on_progress: ProgressCallback | None,
    token: CancelToken | None,
) -> Path:
    """The video with the poses drawn in; for images, a folder of pictures."""
    from napari_superanimal.jobs.annotate import annotate_images, annotate_video

    task, space = results.task, results.predictor.space
    path = task.targets["annotated"]
    with contextlib.closing(open_source(task.source)) as frames:
        if isinstance(frames, ImageFrames):
            names = [task.source.images[i].stem for i in task.frames]
            draw: Callable[..., Path] = partial(annotate_images, names=names)
        else:
            draw = annotate_video
        return draw(
            frames,
            poses,
            task.frames,
            space,
            path,
            threshold=threshold,
            on_progress=on_progress,
            token=token,
        )
