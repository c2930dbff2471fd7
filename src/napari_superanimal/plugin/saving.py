"""From a pose store to files: which points, which file, what happens to what is there already."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.files import atomic_path, unwritable
from napari_superanimal.plugin.settings import scorer
from napari_superanimal.poses.formats import registry
from napari_superanimal.poses.formats.update import update_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_superanimal.plugin.store import Bools, PoseStore
    from napari_superanimal.poses import Poses

#: DeepLabCut's name for tables of human labels.
COLLECTED = "collecteddata"
#: Where earlier versions of a label file are kept, beside it.
BACKUPS = "backups"


@dataclass(frozen=True)
class Saved:
    """What was written.

    Attributes
    ----------
    paths : tuple of Path
        The file asked for first.
    note : str
        One line for the user; empty when there is nothing to say.
    """

    paths: tuple[Path, ...]
    note: str = ""

    def stamps(self) -> dict[str, int]:
        """Modification time (ns) of each file, to know later whether somebody else changed it."""
        return {str(p): p.stat().st_mtime_ns for p in self.paths}


def save_store(store: PoseStore, path: Path, *, ask: Callable[[list[Path]], bool]) -> Saved:
    """Save poses as the file's name and extension tell.

    ``.h5`` and ``.csv`` are written together. ``CollectedData*``, and tables of images that people labelled,
    get the points of people only; every other table gets all points with their likelihood.

    Parameters
    ----------
    ask : callable
        Whether the given existing files may be replaced.

    Raises
    ------
    UserError
        If nothing was written; existing files are as they were.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        poses = store.poses
        if not poses.present.any():
            raise UserError("the layer has no points to save", path=path, remedy="predict or label first")
        _may(store, [path], ask)
        with together([path]):
            registry.write(_named(poses, store), path, "coco", overwrite=True)
        return Saved((path,))
    if suffix not in (".h5", ".csv"):
        raise UserError(f"{suffix} files cannot hold poses", path=path, remedy="save as .h5, .csv or .json")
    if _is_labels(store, path):
        return _save_labels(store, path, ask)
    return _save_predictions(store, path, ask)


def merge_labels(existing: Poses, new: Poses, removed: Bools) -> Poses:
    """`existing` with the points of `new` in it and without those that were removed; all else stays.

    Parameters
    ----------
    existing, new : Poses
        Both of images; rows match by the image's file.
    removed : (T, A, K) bool
        Points of `new`'s axes that a person deleted.
    """
    new = _same_root(new, existing)
    merged = update_labels(existing, new)
    index = {image: row for row, image in enumerate(merged.images)}
    gone = np.zeros(merged.likelihood.shape, bool)
    rows = np.array([index[i] for i in new.images], np.int64)
    animals = [merged.individuals.index(i) for i in new.individuals]
    points = [merged.keypoints.index(k) for k in new.keypoints]
    gone[np.ix_(rows, np.array(animals), np.array(points))] = removed
    kept = np.zeros(merged.likelihood.shape, bool)
    a, k = len(existing.individuals), len(existing.keypoints)
    back = np.array([index[i] for i in existing.images], np.int64)
    kept[back, :a, :k] = existing.found
    # a point that is merely not known here is not a deleted one
    again = kept & ~merged.found & ~gone
    for name in ("xy", "visibility", "likelihood", "human"):
        source, target = getattr(existing, name), getattr(merged, name)
        wide = np.zeros_like(target)
        wide[back, :a, :k] = source
        target[again] = wide[again]
    return merged


def _save_predictions(store: PoseStore, path: Path, ask: Callable[[list[Path]], bool]) -> Saved:
    poses = _named(store.poses, store)
    if not poses.present.any():
        raise UserError("the layer has no points to save", path=path, remedy="predict or label first")
    pair = _pair(path)
    for file in pair:
        if file.is_file() and _holds_labels(file):
            raise UserError(
                "holds labels that people placed; predictions never replace those",
                path=file,
                remedy="choose another name, or save your corrections as CollectedData",
            )
    _may(store, pair, ask)
    with together([*pair]):
        _write_pair(poses, pair, "predictions")
    n = int(poses.human.sum())
    note = f"Saved {path.name}; the {n} points you placed are marked in it." if n else ""
    return Saved(pair, note)


def _save_labels(store: PoseStore, path: Path, ask: Callable[[list[Path]], bool]) -> Saved:
    pair = _pair(path)
    # back into the file they came from go only changes: others may have worked on it meanwhile
    home = str(store.info.get("source") or "") in {str(p) for p in pair}
    labels, removed = human_part(store, changes_only=home and path.exists())
    if not store.poses.human.any() and not removed.any():
        raise UserError(
            "no point in this layer was placed or moved by a person",
            path=path,
            remedy="correct some points first, or save under a name that does not begin with CollectedData",
        )
    pictures: list[Path] = []
    if labels.is_video:
        labels, pictures = _as_images(labels, store, path)
    target = next((p for p in pair if p.is_file()), None)
    note = ""
    with together([*pair, *pictures]):
        if pictures:
            _extract(store, labels, pictures)
        if target is not None and _mergeable(target, labels):
            labels = merge_labels(registry.read(target), labels, removed)
            kept = backup(pair)
            note = f"Merged into {path.name}; the version before is {kept.parent.name}/{kept.name}."
        else:
            _may(store, pair, ask)
        _write_pair(labels, pair, "labels")
    return Saved((*pair, *pictures), note)


def human_part(store: PoseStore, changes_only: bool = False) -> tuple[Poses, Bools]:
    """The points that people placed, in the rows where they placed or deleted any; and what they deleted.

    Image tables keep all their rows: an image without labels is part of the data set.

    Parameters
    ----------
    changes_only : bool
        Only points that were placed or moved since the poses were read.
    """
    poses = store.poses
    edited = np.asarray((poses.human | store.removed).any((1, 2)))
    rows = np.ones(len(poses), bool) if poses.images else edited
    part = poses.take(rows)
    mine = part.human & store.touched()[np.flatnonzero(rows)] if changes_only else part.human
    labels = replace(
        part,
        xy=np.where(mine[..., None], part.xy, np.nan),
        likelihood=np.where(mine, 1.0, np.nan),
        visibility=np.where(mine, part.visibility, np.minimum(part.visibility, 0)).astype(np.int8),
        boxes=np.where(mine.any(-1, keepdims=True), part.boxes, np.nan),
        box_scores=np.full(part.box_scores.shape, np.nan),
        scorer=_label_scorer(store),
    )
    return labels, store.removed[np.flatnonzero(rows)]


def backup(files: tuple[Path, ...]) -> Path:
    """Copies of existing files under ``backups/`` with the time in their names; the first copy.

    Raises
    ------
    UserError
        If they cannot be written.
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    made: list[Path] = []
    for file in files:
        if file.is_file():
            copy = file.parent / BACKUPS / f"{file.stem}.{stamp}{file.suffix}"
            with atomic_path(copy) as temporary:
                shutil.copy2(file, temporary)
            made.append(copy)
    return made[0]


@contextmanager
def together(files: list[Path]) -> Iterator[None]:
    """Several files are written, or none: after an error each is again what it was.

    Raises
    ------
    UserError
        If a file cannot be secured before.
    """
    safe: dict[Path, Path] = {}
    new = [f for f in files if not f.exists()]
    try:
        for file in files:
            if file.exists():
                copy = file.with_name(f".{file.name}.before-{uuid4().hex[:8]}")
                try:
                    # a second name of the same bytes needs no room on a full disk
                    os.link(file, copy)
                except OSError:
                    shutil.copy2(file, copy)
                safe[file] = copy
    except OSError as error:
        for copy in safe.values():
            copy.unlink(missing_ok=True)
        raise unwritable(file, error) from error
    try:
        yield
    except BaseException:
        for file, copy in safe.items():
            os.replace(copy, file)
        for file in new:
            with suppress(OSError):
                file.unlink(missing_ok=True)
        raise
    finally:
        for copy in safe.values():
            copy.unlink(missing_ok=True)


def _write_pair(poses: Poses, pair: tuple[Path, ...], kind: str) -> None:
    for file in pair:
        registry.write(poses, file, f"dlc-{file.suffix.lower()[1:]}", overwrite=True, kind=kind)


def _pair(path: Path) -> tuple[Path, ...]:
    """The table asked for and its twin; DeepLabCut always writes both."""
    other = ".csv" if path.suffix.lower() == ".h5" else ".h5"
    return path, path.with_suffix(other)


def _may(store: PoseStore, files: list[Path] | tuple[Path, ...], ask: Callable[[list[Path]], bool]) -> None:
    """Replace only what was written from here and not changed since, or what the user agrees to.

    Raises
    ------
    UserError
        If the user does not.
    """
    foreign = [f for f in files if f.exists() and store.saved.get(str(f)) != f.stat().st_mtime_ns]
    if foreign and not ask(foreign):
        raise UserError(
            "exists already and was not changed", path=foreign[0], remedy="save under another name"
        )


def _is_labels(store: PoseStore, path: Path) -> bool:
    if path.stem.lower().startswith(COLLECTED):
        return True
    return store.info.get("kind") == "labels" and bool(store.poses.human.any())


def _holds_labels(file: Path) -> bool:
    """Whether an existing table is people's; a file that cannot be read counts as such."""
    if file.stem.lower().startswith(COLLECTED):
        return True
    if registry.sniff(file) is None:
        return False
    try:
        dlc = registry.read(file).metadata.get("dlc") or {}
    except UserError:
        return False
    return dlc.get("kind") == "labels"


def _mergeable(file: Path, labels: Poses) -> bool:
    """Whether the table at `file` holds labels of images that these can go into."""
    if registry.sniff(file) is None:
        return False
    present = registry.read(file)
    return present.is_video == labels.is_video and (present.metadata.get("dlc") or {}).get("kind") == "labels"


def _label_scorer(store: PoseStore) -> str:
    dlc = store.poses.metadata.get("dlc")
    known = dlc.get("scorer") if isinstance(dlc, dict) and dlc.get("kind") == "labels" else ""
    if known:
        return str(known)
    return store.poses.scorer if store.info.get("kind") == "labels" and store.poses.scorer else scorer()


def _named(poses: Poses, store: PoseStore) -> Poses:
    """`poses` with scorer, model, space and video, so that the file tells where it comes from."""
    info = {key: store.info[key] for key in ("model", "space", "video") if store.info.get(key)}
    name = poses.scorer or str(store.info.get("model") or "") or scorer()
    return replace(poses, scorer=name, metadata={**poses.metadata, **info, "threshold": store.threshold})


def _same_root(new: Poses, existing: Poses) -> Poses:
    """`new` with images named as `existing` names them."""
    known = {os.path.normpath(existing.image_path(r)): name for r, name in enumerate(existing.images)}
    names = [
        known.get(os.path.normpath(new.image_path(row)), known.get(name, name))
        for row, name in enumerate(new.images)
    ]
    if existing.root is not None:
        names = [Path(os.path.relpath(n, existing.root)).as_posix() if os.path.isabs(n) else n for n in names]
    return replace(new, images=tuple(names), root=existing.root or new.root)


def _as_images(labels: Poses, store: PoseStore, path: Path) -> tuple[Poses, list[Path]]:
    """Labelled frames of a video as images beside the table, as DeepLabCut has them."""
    video = Path(str(store.info.get("video") or ""))
    if not video.is_file():
        raise UserError(
            "labels of a video need its frames as images, and the video is not known",
            path=path,
            remedy="save under a name that does not begin with CollectedData, or as .json",
        )
    folder = path.parent.name
    files = [path.parent / f"img{frame:06d}.png" for frame in labels.frames.tolist()]
    images = tuple(f"labeled-data/{folder}/{file.name}" for file in files)
    root = path.parent.parent.parent if path.parent.parent.name == "labeled-data" else None
    if root is None:
        images, root = tuple(file.name for file in files), path.parent
    frames = np.arange(len(labels))
    labels = replace(
        labels, images=images, root=root, metadata={**labels.metadata, "frames": labels.frames.tolist()}
    )
    return replace(labels, frames=frames), [f for f in files if not f.is_file()]


def _extract(store: PoseStore, labels: Poses, pictures: list[Path]) -> None:
    """Write the frames that are not there yet as PNG."""
    from PIL import Image

    from napari_superanimal.video import open_video

    numbers = {f"img{n:06d}.png": n for n in labels.metadata["frames"]}
    with open_video(Path(str(store.info["video"]))) as video:
        for file in pictures:
            with atomic_path(file) as temporary:
                Image.fromarray(video.frame(numbers[file.name])).save(temporary, format="PNG")


__all__ = ["Saved", "backup", "human_part", "merge_labels", "save_store", "together"]
