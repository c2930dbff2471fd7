"""Making sure that the weights a job needs are on this computer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    from napari_superanimal.jobs.progress import CancelToken, ProgressCallback
    from napari_superanimal.models.zoo import ModelRef


def ensure_here(
    model: ModelRef, *, on_progress: ProgressCallback | None = None, token: CancelToken | None = None
) -> ModelRef:
    """A model whose weights are here: as it is, or, for one of SuperAnimal's, downloaded at its first use.

    Raises
    ------
    UserError
        If they cannot be downloaded.
    Cancelled
        If the token was set meanwhile.
    """
    if model.here or not model.official:
        return model
    from napari_superanimal.models.official.hub import fetch

    return fetch(model, on_progress=on_progress, token=token)


def refuse_detector_as_model(model: ModelRef) -> None:
    """Make sure that a model finds keypoints.

    Raises
    ------
    UserError
        If it only finds boxes.
    """
    if not model.card.pose:
        raise UserError(
            f"{model.card.name} is a detector and finds no keypoints",
            remedy="give it as --detector, and a pose model as --model",
        )
