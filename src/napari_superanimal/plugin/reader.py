"""Opening files in napari: videos, image folders, DeepLabCut projects and tables, COCO."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.plugin import messages
from napari_superanimal.plugin.conventions import AXES, OURS

if TYPE_CHECKING:
    from napari_superanimal.plugin.layers import LayerTuple
    from napari_superanimal.poses import Poses
    from napari_superanimal.video import Video

ReaderFunction = Callable[[Any], list[Any]]

VIDEOS = (".mp4", ".avi", ".mov", ".mkv")
TABLES = (".h5", ".csv", ".json")
#: Pictures that a folder of frames is made of; napari itself opens folders of TIFF.
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
#: Starts of names under which DeepLabCut and we write tables: such a file is ours even if it is damaged.
OWN_NAMES = ("collecteddata", "machinelabels")
LFS_POINTER = b"version https://git-lfs"
#: What napari understands as "opened, but nothing to show".
NOTHING: list[Any] = [(None,)]


def get_reader(path: str | Sequence[str]) -> ReaderFunction | None:
    """Whether a file or folder is ours: a look at its name and first bytes, no more.

    Returns
    -------
    callable or None
        Turns the path into layers.
    """
    if not isinstance(path, str | Path):
        return None
    file = Path(path)
    try:
        if file.is_dir():
            return read_path if _ours_folder(file) else None
        suffix = file.suffix.lower()
        if suffix in VIDEOS:
            return read_path
        if suffix in TABLES or file.name == "config.yaml":
            return read_path if _ours_table(file) else None
    except OSError:
        return None
    return None


def read_path(path: str | Sequence[str]) -> list[Any]:
    """Layers of one file or folder. In a window an error becomes a one-line notification.

    Raises
    ------
    UserError
        Without a window, if the file cannot be read.
    """
    file = Path(path if isinstance(path, str | Path) else path[0]).absolute()
    from napari_superanimal.plugin.session import watch_current

    try:
        layers = read_layers(file)
    except UserError as error:
        if messages.window() is None:
            raise
        messages.complain(error)
        return NOTHING
    watch_current()
    return layers


def read_layers(path: Path) -> list[LayerTuple]:
    """Image, skeleton, boxes and points of what `path` holds, in drawing order.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    from napari_superanimal.poses.formats import registry

    if path.suffix.lower() in VIDEOS:
        return [video_layer(path)]
    if path.is_dir() and registry.sniff(path) is None:
        return [video_layer(path)]
    poses = registry.read(path)
    for text in list(poses.metadata.get("warnings", ()))[:3]:
        messages.warn(f"{path.name}: {text}")
    return image_layers(path, poses) if poses.images else table_layers(path, poses)


def video_layer(path: Path) -> LayerTuple:
    """A video or a folder of images as a lazy Image layer; smaller images are padded to the largest.

    Raises
    ------
    UserError
        If it cannot be opened.
    """
    from napari_superanimal.video import MixedSizes, open_video

    data: Any
    try:
        data = open_video(path)
    except MixedSizes:
        from napari_superanimal.jobs.frames import ImageFrames
        from napari_superanimal.plugin.frames import image_stack
        from napari_superanimal.video.folder import images_in

        files = images_in(path)
        data = image_stack(files, ImageFrames(files).sizes(), path.name)
    return _image(data, path.name if path.is_dir() else path.stem, str(path))


def table_layers(path: Path, poses: Poses) -> list[LayerTuple]:
    """Predictions, and the video they belong to when it lies near."""
    from napari_superanimal.plugin.layers import poses_to_layers

    out: list[LayerTuple] = []
    video = find_video(path, poses)
    if video is None:
        messages.warn(f"{path.name}: its video was not found beside it; open the video to see the frames")
    elif not _is_open(video):
        layer = video_layer(video)
        count, last = len(layer[0]), int(poses.frames.max()) if len(poses) else -1
        if last >= count:
            messages.warn(f"{path.name} has frame {last}, but {video.name} only has {count} frames")
        out.append(layer)
    out += poses_to_layers(
        poses,
        name=path.stem if video is None or video.stem != path.stem else f"{path.stem} poses",
        space=space_of(poses),
        video=video,
        source=path,
    )
    return out


def image_layers(path: Path, poses: Poses) -> list[LayerTuple]:
    """Labelled images: one Image and one Points layer per folder, the first of them visible."""
    from napari_superanimal.plugin.layers import poses_to_layers

    missing = sum(not poses.image_path(row).is_file() for row in range(len(poses)))
    if missing:
        example = next(poses.images[r] for r in range(len(poses)) if not poses.image_path(r).is_file())
        messages.warn(f"{path.name}: {missing} of {len(poses)} images are missing, for example {example}")
    out: list[LayerTuple] = []
    space = space_of(poses)
    for title, part in split_folders(poses, path):
        shown = not out
        layers: list[LayerTuple] = []
        if any(part.image_path(row).is_file() for row in range(len(part))):
            layers.append(stack_layer(part, title))
        points = poses_to_layers(part, name=f"{title} labels", space=space, source=_label_file(path, part))
        for data, attrs, kind in (*layers, *points):
            out.append((data, {**attrs, "visible": attrs.get("visible", True) and shown}, kind))
    return out


def stack_layer(poses: Poses, title: str) -> LayerTuple:
    """The images of `poses` as one Image layer, row by row."""
    from napari_superanimal.plugin.frames import image_stack
    from napari_superanimal.video import open_video

    paths = [poses.image_path(row) for row in range(len(poses))]
    data: Any
    same = len({tuple(s) for s in poses.image_sizes.tolist()}) == 1 and bool((poses.image_sizes > 0).all())
    try:
        # images of one size are a video like any other
        data = open_video(paths) if same and len(paths) > 1 else image_stack(paths, poses.image_sizes, title)
    except UserError:
        data = image_stack(paths, poses.image_sizes, title)
    data_, attrs, kind = _image(data, title, "")
    attrs["metadata"] |= {"paths": list(poses.images), "root": str(poses.root or "")}
    return data_, attrs, kind


def split_folders(poses: Poses, path: Path) -> list[tuple[str, Poses]]:
    """One `Poses` per folder of a DeepLabCut project; a COCO file stays in one piece."""
    if str(poses.metadata.get("format", "")) != "dlc-project":
        folder = PurePosixPath(poses.images[0]).parent.name if path.suffix.lower() != ".json" else ""
        return [(folder or path.stem, poses)]
    rows: dict[str, list[int]] = {}
    for row, image in enumerate(poses.images):
        rows.setdefault(PurePosixPath(image).parent.name or path.stem, []).append(row)
    return [(folder, poses.take(members)) for folder, members in rows.items()]


def space_of(poses: Poses) -> str:
    """The keypoint space whose names these are; empty when none has at least half of them."""
    from napari_superanimal.keypoints import BUILTIN_SPACES, load_space

    given = str(poses.metadata.get("space", ""))
    if given or not poses.keypoints:
        return given
    shares = {n: sum(k in load_space(n) for k in poses.keypoints) for n in BUILTIN_SPACES}
    best = max(shares, key=lambda n: shares[n])
    return best if shares[best] * 2 >= len(poses.keypoints) else ""


def find_video(table: Path, poses: Poses) -> Path | None:
    """The video that a table of predictions belongs to.

    Tried in turn: what the poses say, the run card beside the table, the video in the table's folder or the
    folder above whose name the table's begins with (the longest such name).
    """
    named = [str(poses.metadata.get("video", "") or "")]
    card = table.with_name(f"{table.stem}.run.json")
    if card.is_file():
        try:
            content = json.loads(card.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = {}
        if isinstance(content, dict):
            named += [str(content.get(key, "") or "") for key in ("video", "input")]
    for name in named:
        for candidate in (Path(name), table.parent / name, table.parent / Path(name).name):
            if name and candidate.is_file() and candidate.suffix.lower() in VIDEOS:
                return candidate.absolute()
    for folder in (table.parent, table.parent.parent):
        near = [
            p
            for p in sorted(folder.iterdir())
            if p.suffix.lower() in VIDEOS and table.stem.lower().startswith(p.stem.lower())
        ]
        if near:
            return max(near, key=lambda p: len(p.stem))
    return None


def _image(data: Video | Any, name: str, video: str) -> LayerTuple:
    attrs = {
        "name": name,
        "rgb": True,
        "axis_labels": AXES,
        # the video keeps its own frames
        "cache": False,
        "contrast_limits": (0, 255),
        "metadata": {OURS: {"role": "video", "video": video, "fps": float(getattr(data, "fps", 30.0))}},
    }
    return data, attrs, "image"


def _is_open(video: Path) -> bool:
    """Whether the present viewer shows this video already."""
    import napari

    viewer = napari.current_viewer()
    if viewer is None:
        return False
    for layer in viewer.layers:
        shown = (layer.metadata.get(OURS) or {}).get("video") or getattr(layer.source, "path", None)
        if shown and not layer.metadata.get(OURS, {}).get("store") and Path(shown) == video:
            return True
    return False


def _label_file(path: Path, poses: Poses) -> Path:
    """The table that the labels of one folder belong into."""
    if path.suffix.lower() in TABLES:
        return path
    folder = poses.image_path(0).parent
    found = sorted(folder.glob("CollectedData*.h5")) + sorted(folder.glob("CollectedData*.csv"))
    return found[0] if found else folder / f"CollectedData_{poses.scorer or 'me'}.h5"


def _ours_folder(folder: Path) -> bool:
    from napari_superanimal.poses.formats import registry

    if registry.sniff(folder) is not None:
        return True
    names = [p for p in folder.iterdir() if not p.name.startswith(".")]
    pictures = [p for p in names if p.suffix.lower() in PICTURES]
    # a folder of frames holds pictures and little else
    return len(pictures) > 1 and 2 * len(pictures) > len(names)


def _ours_table(file: Path) -> bool:
    from napari_superanimal.poses.formats import registry

    if registry.sniff(file) is not None:
        return True
    if file.suffix.lower() not in TABLES or not file.is_file():
        return False
    if file.stem.lower().startswith(OWN_NAMES):
        return True
    with open(file, "rb") as handle:
        return handle.read(64).startswith(LFS_POINTER)
