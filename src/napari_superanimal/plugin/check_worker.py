"""Work of the Check and Clean up panels that runs beside the window; see `workers` for the rules."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.qt.threading import thread_worker

from napari_superanimal.jobs.progress import Cancelled, CancelToken, Progress
from napari_superanimal.plugin.safe_import import import_torch
from napari_superanimal.plugin.workers import Failed, explain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_superanimal.jobs.check import CheckReport
    from napari_superanimal.plugin.image_source import ArrayVideo
    from napari_superanimal.poses import Poses
    from napari_superanimal.smoothing import Finding, SmoothOptions
    from napari_superanimal.video import Video


@dataclass
class Latest:
    """Where a job stands; the worker writes, the window reads now and then."""

    progress: Progress = field(default_factory=lambda: Progress(0, 0))


@thread_worker
def check_worker(
    video: Video | ArrayVideo, models: Sequence[str], latest: Latest, token: CancelToken
) -> CheckReport | Failed | None:
    """Try models on a few frames; None when cancelled."""
    try:
        import_torch()
        import torch

        from napari_superanimal.jobs.check import check_video, installed

        # a second team of threads would slow down the networks of the workers that predict
        torch.set_num_threads(1)

        def report(progress: Progress) -> None:
            latest.progress = progress

        fps = float(getattr(video, "fps", 0.0)) or None
        return check_video(video, installed(models), fps=fps, on_progress=report, token=token)
    except Cancelled:
        return None
    except Exception as error:
        return Failed(explain(error, "Check"))
    finally:
        video.close()


@thread_worker
def find_worker(poses: Poses) -> list[Finding] | Failed:
    """Look for swaps and outliers."""
    try:
        from napari_superanimal.smoothing import find_problems

        return find_problems(poses)
    except Exception as error:
        return Failed(explain(error, "Clean up"))


@thread_worker
def mend_worker(
    poses: Poses,
    findings: Sequence[Finding],
    options: SmoothOptions | None,
    removed: npt.NDArray[np.bool_],
) -> Poses | Failed:
    """Mend, or smooth, into new poses; what a person deleted (T, A, K) stays away."""
    try:
        from napari_superanimal.smoothing import clean, smooth

        result = clean(poses, findings) if options is None else smooth(poses, options)
        back = removed & result.found
        if back.any():
            xy: Any = np.where(back[..., None], np.nan, result.xy)
            sure = np.where(back, np.nan, result.likelihood)
            result = replace(
                result,
                xy=xy,
                likelihood=sure,
                visibility=np.where(back, 0, result.visibility).astype(np.int8),
            )
        return result
    except Exception as error:
        return Failed(explain(error, "Clean up"))
