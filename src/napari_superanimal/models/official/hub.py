"""Getting weights from the internet: the Hugging Face hub, or torchvision's server for its own detectors.

A connection to the hub that breaks is taken up again where it broke, as long as the program runs. Proxies are taken
from the usual environment variables, a mirror of the hub from ``HF_ENDPOINT``; with ``HF_HUB_OFFLINE=1`` only what is
in the hub's cache is used.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Progress, ProgressCallback
from napari_superanimal.models.official.install import install, snapshots_home
from napari_superanimal.models.zoo import ModelRef, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_superanimal.models.official.catalogue import Release

MEGABYTE = 1_000_000


def fetch(
    ref: ModelRef,
    *,
    revision: str | None = None,
    overwrite: bool = False,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> ModelRef:
    """A released model with its weights, downloaded and converted if they are not here yet.

    Parameters
    ----------
    revision : str, optional
        Commit of the repository. By default the one that the weights here came from, else the newest; which
        one it was is recorded in the card.
    overwrite : bool
        Take new weights even if weights with another checksum are here.
    on_progress : callable, optional
        Gets a `Progress` in megabytes.

    Raises
    ------
    UserError
        If there is no network, or what came is not what it should be.
    Cancelled
        If the token was set.
    """
    from napari_superanimal.models.official.catalogue import release_of_card

    release = release_of_card(ref.card)
    if ref.here and not overwrite and revision is None:
        return ref
    terms = "" if release.coco else " (for research only)"
    report = _Report(release.name + terms, on_progress, token or CancelToken())
    pinned = revision or ref.card.source.get("revision")
    path, source = _from_torchvision(release, report) if release.coco else _from_hub(release, pinned, report)
    if release.sha256 and sha256(path) != release.sha256:
        raise UserError(
            f"the file of {release.name} is not the one that was released (its checksum is another)",
            path=path,
            remedy="delete it and try again; if that does not help, do not use it",
        )
    return install(release, path, source, overwrite=overwrite)


class _Report:
    """Bytes that came, told on as megabytes."""

    def __init__(self, name: str, callback: ProgressCallback | None, token: CancelToken) -> None:
        self.message = f"downloading {name}"
        self._callback = callback
        self._token = token
        self._started = time.monotonic()

    def __call__(self, done: float, total: float | None) -> None:
        if self._token.cancelled:
            raise Cancelled("the download was stopped")
        if self._callback is not None:
            rate = done / MEGABYTE / max(time.monotonic() - self._started, 1e-3)
            left = (total - done) / MEGABYTE / rate if total and rate else float("nan")
            self._callback(
                Progress(int(done / MEGABYTE), int((total or 0) / MEGABYTE), rate, left, self.message)
            )


def _from_hub(release: Release, revision: str | None, report: _Report) -> tuple[Path, dict[str, Any]]:
    """The file of a release in the hub's cache, and where it came from."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        with _quiet():
            path = Path(
                hf_hub_download(
                    release.repo, release.file, revision=revision, tqdm_class=_bar(report), etag_timeout=20
                )
            )
    except RevisionNotFoundError as error:
        raise UserError(
            f"{release.repo} has no revision {revision!r}", remedy="leave --revision out for the newest"
        ) from error
    except (EntryNotFoundError, RepositoryNotFoundError) as error:
        if _offline(error):
            raise no_network(release, "no connection, and nothing in the hub's cache") from error
        raise UserError(
            f"{release.repo} does not offer {release.file} (any more)",
            remedy=f"look at https://huggingface.co/{release.repo}, then `superanimal models import "
            f"{release.name}:FILE`",
        ) from error
    except Cancelled:
        raise
    except Exception as error:  # the clients of the hub raise whatever their transport raises
        raise no_network(release, f"{type(error).__name__}") from error
    commit = path.parent.name if path.parent.parent.name == "snapshots" else revision
    return path, {"repository": release.repo, "revision": commit}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the hub's log of every attempt: what a person needs comes as one line at the end."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _offline(error: Exception) -> bool:
    """Whether "not found" only means that nobody could be asked."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    return isinstance(error, LocalEntryNotFoundError)


def no_network(release: Release, reason: str) -> UserError:
    """What to do when weights cannot be downloaded."""
    where = "torchvision's download page" if release.coco else f"https://huggingface.co/{release.repo}"
    file = release.file or "its file"
    return UserError(
        f"cannot download {release.name} ({reason})",
        remedy=f"connect to the internet (HTTPS_PROXY and HF_ENDPOINT are respected); or get {file} from {where} "
        f"on another computer and `superanimal models import {release.name}:FILE`; or use a shipped model, "
        "mouse-topview-mini or quadruped-sideview-mini",
    )


def _bar(report: _Report) -> type:
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Bar(tqdm):
        """The hub's progress bar, told on instead of drawn."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._total = kwargs.get("total")
            self._came = kwargs.get("initial") or 0
            kwargs["disable"] = True
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> bool | None:
            self._came += n or 0
            report(self._came, self._total)
            return super().update(n)

    return Bar


def _from_torchvision(release: Release, report: _Report) -> tuple[Path, dict[str, Any]]:
    """torchvision's COCO weights; their file's name ends with the beginning of its checksum."""
    import torch
    from torchvision.models import detection

    weights = {
        "fasterrcnn_mobilenet_v3_large_fpn": detection.FasterRCNN_MobileNet_V3_Large_FPN_Weights,
        "fasterrcnn_resnet50_fpn": detection.FasterRCNN_ResNet50_FPN_Weights,
        "fasterrcnn_resnet50_fpn_v2": detection.FasterRCNN_ResNet50_FPN_V2_Weights,
    }[release.architecture].DEFAULT
    name = weights.url.rsplit("/", 1)[-1]
    path = snapshots_home().parent / "torchvision" / name
    if not path.is_file():
        report(0, None)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(
                weights.url,
                str(path),
                hash_prefix=name.rsplit("-", 1)[-1].removesuffix(".pth"),
                progress=False,
            )
        except (OSError, RuntimeError) as error:
            raise no_network(release, f"{type(error).__name__}: {str(error)[:80]}") from error
        report(path.stat().st_size, path.stat().st_size)
    return path, {"url": weights.url}
