"""A file of predictions cleaned and smoothed into a new one, with a card that says how."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.evaluation.jitter import steadiness
from napari_superanimal.jobs import run_card
from napari_superanimal.jobs.outputs import check_folder, check_new
from napari_superanimal.jobs.plain_json import write_json
from napari_superanimal.poses.formats import registry
from napari_superanimal.smoothing import Finding, SmoothOptions, clean, find_problems, smooth
from napari_superanimal.smoothing.clean import require_video

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_superanimal.poses import Poses

#: Format by the suffix of the file to write.
FORMATS = {".h5": "dlc-h5", ".csv": "dlc-csv", ".json": "coco"}
NONE = "none"


@dataclass(frozen=True)
class SmoothResult:
    """What became of one file.

    Attributes
    ----------
    poses : Poses
        What was written.
    findings : tuple of Finding
        What was mended before smoothing.
    files : tuple of Path
    report : dict
        For ``--json`` and the card.
    """

    poses: Poses
    findings: tuple[Finding, ...]
    files: tuple[Path, ...]
    report: dict[str, Any]


def smooth_file(
    path: Path,
    out: Path,
    options: SmoothOptions | None,
    *,
    fix: Sequence[str] = (),
    fps: float | None = None,
    overwrite: bool = False,
) -> SmoothResult:
    """Mend and smooth the predictions of a video; the file they come from stays as it is.

    Parameters
    ----------
    path : Path
        Predictions in any format that can be read.
    out : Path
        New file, ``.h5``, ``.csv`` or ``.json``.
    options : SmoothOptions or None
        None does not smooth, only mends.
    fix : sequence of {"swap", "outlier"}
        What to look for and mend first.
    fps : float, optional
        Of the video; by default as the run card beside the predictions says, else that of the options.
    overwrite : bool
        Replace `out` if it exists.

    Raises
    ------
    UserError
        If the predictions cannot be read, are not those of a video, nothing is to be done, or `out` cannot
        be written.
    """
    if options is None and not fix:
        raise UserError("there is nothing to do", remedy="give --method, --fix or both")
    if out.suffix.lower() not in FORMATS:
        raise UserError(
            f"no format is known for {out.suffix or 'a name without suffix'!r}",
            path=out,
            remedy=f"let --out end with {', '.join(FORMATS)}",
        )
    if out.resolve() == path.resolve():
        raise UserError(
            "predictions are not smoothed in place", path=out, remedy="give another file with --out"
        )
    card_file = run_card.card_path(out)
    if not overwrite:
        check_new([out, card_file])
    check_folder(out.parent)
    poses = registry.read(path)
    poses = replace(poses, metadata={**poses.metadata, "path": str(path)})
    require_video(poses)
    earlier = _earlier(path)
    if not poses.metadata.get("space") and earlier.get("space"):
        poses = replace(poses, metadata={**poses.metadata, "space": earlier["space"]})
    findings = find_problems(poses, kinds=fix) if fix else []
    result = clean(poses, findings)
    if options is not None:
        rate = fps or earlier.get("input_fps") or options.fps
        options = replace(options, fps=float(rate))
        result = smooth(result, options)
    suffix = "cleaned" if options is None else options.method
    result = replace(result, scorer=f"{poses.scorer}_{suffix}" if poses.scorer else suffix)
    files = registry.write(result, out, FORMATS[out.suffix.lower()], overwrite=overwrite)
    report = {
        "input": str(path),
        "frames": len(poses),
        "fixed": list(fix),
        "findings": [finding.to_json() for finding in findings],
        "smoothing": None if options is None else options.used(),
        "before": _figures(poses),
        "after": _figures(result),
    }
    card = {
        **{k: v for k, v in earlier.items() if k not in ("files", "predictions")},
        **run_card.provenance(),
        "status": run_card.COMPLETE,
        "scorer": result.scorer,
        "made_from": report,
        "files": [file.name for file in files],
    }
    write_json(card_file, card)
    return SmoothResult(
        result, tuple(findings), (*files, card_file), {**report, "files": [*files, card_file]}
    )


def _earlier(path: Path) -> dict[str, Any]:
    """The run card beside the predictions; empty without one."""
    try:
        return run_card.read_card(run_card.card_path(path))
    except UserError:
        return {}


def _figures(poses: Poses) -> dict[str, Any]:
    figures = asdict(steadiness(poses))
    figures.pop("per_keypoint")
    return {k: v if math.isfinite(v) else None for k, v in figures.items()}
