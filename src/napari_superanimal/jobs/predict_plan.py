"""What a prediction needs before it starts: options, inputs looked at, outputs that can be written."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.inference.frame_predictor import OWN_DETECTOR, WHOLE_FRAME
from napari_superanimal.jobs import run_card
from napari_superanimal.jobs.chunks import chunks_path
from napari_superanimal.jobs.fetch import ensure_here, refuse_detector_as_model
from napari_superanimal.jobs.frames import ImageFrames
from napari_superanimal.jobs.outputs import check_folder, check_new, file_safe
from napari_superanimal.jobs.reference import boxes_path
from napari_superanimal.jobs.resume import unfinished
from napari_superanimal.models.official.catalogue import release_of_card, scorer
from napari_superanimal.models.zoo import ModelRef, detector_of, find_model

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.jobs.inputs import Source
    from napari_superanimal.jobs.progress import CancelToken, ProgressCallback
    from napari_superanimal.video import Video

#: What a format's files end with; the first is the contract's and always written.
SUFFIXES = {"dlc-h5": ".h5", "dlc-csv": ".csv", "coco": ".json"}


@dataclass(frozen=True)
class PredictOptions:
    """What to predict with, and where to write.

    Attributes
    ----------
    model : str or Path
        A model's name or folder, or ``NAME:FILE`` with a snapshot of one of SuperAnimal's networks.
    detector : str or Path
        "model" for the model's own, "whole-frame", or another model whose detector is used.
    out : Path or None
        Folder of the results; None writes beside each input.
    frames : (start, stop, step)
        As in a Python slice; None where not given.
    max_individuals : int
    formats : tuple of str
        Besides ``dlc-h5``, which is always written.
    device, batch_size, flip, track
        As for `Predictor` and `PredictionStream`.
    precision, runtime : str
        "auto" tries what there is on the first frames of a long recording (`runtime.self_test`), with SuperAnimal's
        models only: the small ones run in float32 by torch unless something else is asked for.
    detect_every : int
        Frames from one look of the detector to the next (`inference.keyframes`); 1 looks at all of them.
    scales : "single", "auto" or tuple of float
        Scales at which the detector looks (`inference.pyramid`); "auto" lets some frames decide.
    annotate : bool
        Also write a video with the poses drawn in.
    overwrite, resume : bool
        What to do where results exist; neither means an error.
    measure_forward : bool
        Also time the bare networks on the same batches.
    reference : bool
        SuperAnimal's models with the reference's choices and faults (`jobs.reference`): float32, no tracks, -1 where
        an animal is missing, nothing after the last frame with an animal, boxes in a JSON beside the table.
    """

    model: str | Path
    detector: str | Path = OWN_DETECTOR
    out: Path | None = None
    frames: tuple[int | None, int | None, int | None] = (None, None, None)
    max_individuals: int = 1
    formats: tuple[str, ...] = ("dlc-h5",)
    device: str = "auto"
    precision: str = "auto"
    runtime: str = "auto"
    detect_every: int = 1
    scales: str | tuple[float, ...] = "single"
    batch_size: int = 16
    flip: bool | None = None
    track: bool = True
    annotate: bool = False
    overwrite: bool = False
    resume: bool = False
    measure_forward: bool = False
    reference: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Task:
    """One source, looked at and ready to run."""

    source: Source
    targets: dict[str, Path]
    frames: range
    card: dict[str, Any]
    done: bool


def scorer_name(model: ModelRef, detector: ModelRef | str) -> str:
    """The scorer in files and file names: the model, and the detector where it is not the model's own."""
    if detector == OWN_DETECTOR:
        return file_safe(model.card.name)
    other = detector if isinstance(detector, str) else detector.card.name
    return scorer(file_safe(model.card.name), file_safe(other))


def find_detector(detector: str | Path, model: ModelRef) -> ModelRef | str:
    """The detector that was asked for; "model" only where it is a part of the model itself."""
    if str(detector) == WHOLE_FRAME:
        return WHOLE_FRAME
    if str(detector) == OWN_DETECTOR:
        return detector_of(model) or OWN_DETECTOR
    return find_model(detector, dataset=release_of_card(model.card).dataset if model.official else "")


def ready_networks(
    options: PredictOptions, on_progress: ProgressCallback | None, token: CancelToken | None
) -> tuple[ModelRef, ModelRef | str]:
    """The model and the detector that were asked for, downloaded where they are not here yet.

    Raises
    ------
    UserError
        If there is no such model, or the options exclude each other.
    Cancelled
        If the token was set meanwhile.
    """
    if options.reference and options.resume:
        raise UserError("a reference run cannot be resumed", remedy="leave --resume or --reference out")
    model = find_model(options.model)
    refuse_detector_as_model(model)
    model = ensure_here(model, on_progress=on_progress, token=token)
    detector = find_detector(options.detector, model)
    if isinstance(detector, ModelRef):
        detector = ensure_here(detector, on_progress=on_progress, token=token)
    return model, detector


class BrokenInput(UserError):
    """A source that could not be opened or read to its end; other sources are not concerned."""


def prepare(source: Source, model: ModelRef, detector: ModelRef | str, options: PredictOptions) -> Task:
    """Open a source and look at everything that could fail after the long work."""
    try:
        opened = open_source(source)
    except UserError as error:
        raise BrokenInput(error.problem, path=error.path or source.path, remedy=error.remedy) from error
    with contextlib.closing(opened) as video:
        total = len(video)
        size = video.sizes()[0] if isinstance(video, ImageFrames) else video.shape[2:0:-1]
        fps = None if isinstance(video, ImageFrames) else float(video.fps)
    frames = frame_range(options.frames, total, source.path)
    name_in_files = scorer_name(model, detector)
    folder = source.folder if options.out is None else options.out
    targets = {
        name: folder / f"{source.name}_{name_in_files}{SUFFIXES[name]}"
        for name in dict.fromkeys(("dlc-h5", *options.formats))
    }
    if options.annotate:
        suffix = ".mp4" if source.is_video else ""
        targets["annotated"] = folder / f"{source.name}_{name_in_files}_annotated{suffix}"
    if options.reference:
        targets["reference"] = boxes_path(targets["dlc-h5"])
    h5 = targets["dlc-h5"]
    sums = {f"{model.card.name}/{name}": digest for name, digest in model.card.sha256.items()}
    if isinstance(detector, ModelRef):
        sums |= {f"{detector.card.name}/{name}": digest for name, digest in detector.card.sha256.items()}
    card: dict[str, Any] = {
        **run_card.provenance(),
        "status": run_card.CANCELLED,
        "input": str(source.path),
        "input_bytes": source.size_bytes,
        "input_content": source.fingerprint(),
        "input_frames": total,
        "input_size": [int(size[0]), int(size[1])],
        "input_fps": fps,
        "model": model.card.name,
        "model_folder": str(model.folder),
        "detector": _detector_label(model, detector),
        "scorer": name_in_files,
        "space": model.card.space_name,
        "weights_sha256": sums,
        "thresholds": {
            "likelihood": model.card.threshold,
            "detector": (detector if isinstance(detector, ModelRef) else model).card.detector_threshold
            if detector != WHOLE_FRAME
            else None,
        },
        "frame_range": [frames.start, frames.stop, frames.step],
        "max_individuals": options.max_individuals,
        "options": {
            name: value
            for name, value in asdict(options).items()
            if name
            in ("precision", "runtime", "detect_every", "scales", "flip", "track", "seed", "reference")
        },
    }
    if not source.is_video:
        card["images"] = [image.name for image in source.images]
    state = unfinished(h5, card) if options.resume else None
    if state is None and not options.overwrite:
        check_new([*targets.values(), run_card.card_path(h5)])
        if (chunks := chunks_path(h5)).exists():
            raise UserError(
                "was left by a run that was interrupted, and is kept",
                path=chunks,
                remedy="go on with --resume, or start anew with --overwrite",
            )
    numbers = len(frames) * options.max_individuals * len(model.card.space.get("keypoints", ())) * 3
    # four bytes each in chunks, eight in h5, some fifteen characters in text
    check_folder(folder, 1_000_000 + numbers * (4 + sum(8 if name == "dlc-h5" else 15 for name in targets)))
    return Task(source, targets, frames, card, state == run_card.COMPLETE)


def _detector_label(model: ModelRef, detector: ModelRef | str) -> str:
    if isinstance(detector, ModelRef):
        return detector.card.name
    return model.card.name if detector == OWN_DETECTOR else detector


def open_source(source: Source) -> Video | ImageFrames:
    """The frames of a source.

    Raises
    ------
    UserError
        If they cannot be read.
    """
    from napari_superanimal.video import open_video

    return open_video(source.path) if source.is_video else ImageFrames(source.images)


def frame_range(frames: tuple[int | None, int | None, int | None], total: int, path: Path) -> range:
    """The frames asked for, of those there are.

    Raises
    ------
    UserError
        If none is left, or the step is below 1.
    """
    start, stop, step = frames
    if step is not None and step < 1:
        raise UserError(f"the step of --frames is {step}", remedy="give a step of 1 or more")
    chosen = range(total)[slice(start, stop, step)]
    if not chosen:
        asked = ":".join("" if n is None else str(n) for n in (start, stop))
        raise UserError(
            f"there is no frame in {asked}, the input has {total}",
            path=path,
            remedy="correct --frames START:STOP[:STEP]",
        )
    return chosen
