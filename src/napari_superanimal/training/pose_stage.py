"""Training the pose network on crops."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_superanimal.inference.pose_pass import Symmetry, pose_pass
from napari_superanimal.models.networks import NetworkConfig, PoseNet, standardise
from napari_superanimal.training.augment import (
    Augmentation,
    draw_affines,
    photometric,
    warp_images,
    warp_points,
)
from napari_superanimal.training.scenery import warp_into_scenes
from napari_superanimal.training.targets import keypoint_targets, pose_loss

if TYPE_CHECKING:
    from napari_superanimal.training.rehearsal import Rehearsal
    from napari_superanimal.training.samples import PoseSamples
    from napari_superanimal.training.scenery import Scenery


class Batch(NamedTuple):
    """Crops as they are learned from, augmented.

    images : (N, 3, S, S) float32 0..255
    points : (N, K, 2) px of these crops, NaN where missing
    codes : (N, K) visibility; -1 weighs nothing
    asked : (N, K) bool, as in `Rehearsal`; None where nothing is rehearsed
    pixel : (N,) px of the frame per px of the stored crop
    """

    images: Tensor
    points: Tensor
    codes: Tensor
    asked: Tensor | None
    pixel: Tensor


#: Gives the loss of a batch, with gradients to the network.
Learn = Callable[[nn.Module, Batch], Tensor]


def draw_batches(
    samples: PoseSamples,
    size: int,
    augmentation: Augmentation,
    batch_size: int,
    learn: Learn,
    *,
    swap: npt.NDArray[np.int64] | None,
    masking: bool = True,
    scenery: Scenery | None = None,
    asked: npt.NDArray[np.bool_] | None = None,
) -> Callable[[nn.Module, np.random.Generator], Tensor]:
    """A function that draws a batch and gives its loss, for any kind of pose network.

    Parameters
    ----------
    size : int
        Side of the crops that are learned from, px.
    learn : callable
        What the network at hand makes of a batch.
    swap, masking, scenery
        As for `pose_batches`.
    asked : (N, K) bool, optional
        As in `Rehearsal`.
    """
    weight = samples.weight.astype(np.float64)
    chance = weight / weight.sum()
    crops = samples.crops
    xy = torch.from_numpy(samples.xy)
    pixel = torch.from_numpy(samples.pixel)
    visibility = torch.from_numpy(samples.visibility.astype(np.int64))
    if not masking:
        visibility = visibility.clamp_min(0)
    open_ones = None if asked is None else torch.from_numpy(asked)
    exchange = None if swap is None else torch.from_numpy(np.asarray(swap))
    room = crops.shape[-1]

    def loss(network: nn.Module, rng: np.random.Generator) -> Tensor:
        index = torch.from_numpy(rng.choice(len(crops), batch_size, p=chance))
        affines = draw_affines(batch_size, size, augmentation, rng)
        if not augmentation.changes_scene or scenery is None or samples.silhouettes is None:
            images = warp_images(crops[index], affines, size)
        else:
            cut_out = samples.silhouettes[index]
            images = warp_into_scenes(crops[index], cut_out, scenery, affines, size, augmentation, rng)
        points = warp_points(xy[index], affines, room, size)
        codes = visibility[index]
        open_here = None if open_ones is None else open_ones[index]
        if exchange is not None:
            mirrored = affines.mirrored[:, None]
            codes = torch.where(mirrored, codes[:, exchange], codes)
            points = torch.where(mirrored[..., None], points[:, exchange], points)
            open_here = (
                None if open_here is None else torch.where(mirrored, open_here[:, exchange], open_here)
            )
        images = photometric(images, augmentation.photometric, rng)
        return learn(network, Batch(images, points, codes, open_here, pixel[index]))

    return loss


def pose_batches(
    samples: PoseSamples,
    config: NetworkConfig,
    augmentation: Augmentation,
    batch_size: int,
    *,
    swap: npt.NDArray[np.int64] | None,
    masking: bool = True,
    scenery: Scenery | None = None,
    precision: str = "fp32",
) -> Callable[[nn.Module, np.random.Generator], Tensor]:
    """A function that draws a batch and gives its loss, for a `PoseNet`.

    Parameters
    ----------
    swap : (K,) permutation or None
        Channels that trade places when a crop is mirrored; None where channels mean near and far.
    masking : bool
        False trains undefined keypoints as absent (the paper's naive baseline).
    scenery : Scenery or None
        Backgrounds; None leaves every animal where it is, as do samples without silhouettes.
    precision : str
        As in `LoopConfig`.
    """

    def learn(network: nn.Module, batch: Batch) -> Tensor:
        return batch_loss(network, batch, config, precision)

    return draw_batches(
        samples,
        config.input_size,
        augmentation,
        batch_size,
        learn,
        swap=swap,
        masking=masking,
        scenery=scenery,
    )


def batch_loss(
    network: nn.Module,
    batch: Batch,
    config: NetworkConfig,
    precision: str = "fp32",
    rehearsal: Rehearsal | None = None,
) -> Tensor:
    """Masked loss of a `PoseNet` on a batch; what is rehearsed is learned as the starting model sees it there."""
    images = standardise(batch.images).to(memory_format=torch.channels_last)
    cells = config.input_size // config.stride
    points, codes, answer = batch.points, batch.codes, None
    if rehearsal is not None and batch.asked is not None:
        answer = rehearsal.answer(images, points, batch.asked)
        points, codes = answer.xy, codes.masked_fill(answer.taken, 2)
    heat, shift, counts = keypoint_targets(points, codes, config.stride, cells)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        out = network(images)
    heatmaps, offsets = out.heatmaps.float(), out.offsets.float()
    if answer is None:
        return pose_loss(heatmaps, offsets, heat, shift, counts)
    unlike = answer.unlike(heatmaps, offsets)
    return pose_loss(heatmaps, offsets, answer.heat(heat), shift, counts, extra=unlike)


def centre_crops(samples: PoseSamples, size: int) -> tuple[Tensor, npt.NDArray[np.float32]]:
    """The crops as the network sees them at inference, (N, 3, size, size) uint8, and keypoints in their pixels."""
    room = samples.crops.shape[-1]
    margin = (room - size) // 2
    return samples.crops[:, :, margin : margin + size, margin : margin + size], samples.xy - margin


@torch.inference_mode()
def predict_samples(
    network: PoseNet, samples: PoseSamples, symmetry: Symmetry, flip: bool = False, batch_size: int = 32
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Tensor, npt.NDArray[np.float32]]:
    """Keypoints (N, K, 2) and truth (N, K, 2) in crop px, confidence (N, K), embeddings (N, C)."""
    network.eval()
    crops, truth = centre_crops(samples, network.config.input_size)
    points, confidences, embeddings = [], [], []
    for start in range(0, len(crops), batch_size):
        ready = standardise(crops[start : start + batch_size]).to(memory_format=torch.channels_last)
        at, confidence, embedding = pose_pass(network, ready, symmetry, flip)
        points.append(at.numpy())
        confidences.append(confidence.numpy())
        embeddings.append(embedding)
    return np.concatenate(points), np.concatenate(confidences), torch.cat(embeddings), truth


def pose_validator(
    samples: PoseSamples, context: float, symmetry: Symmetry
) -> Callable[[nn.Module], dict[str, float]]:
    """Mean error in px of the frame, and the share within 5 % of the box's longer side, per source dataset."""
    sources = np.array(samples.source)

    def validate(network: nn.Module) -> dict[str, float]:
        assert isinstance(network, PoseNet)
        at, _, _, truth = predict_samples(network, samples, symmetry)
        error = np.linalg.norm(at - truth, axis=-1)
        labelled = (samples.visibility > 0) & np.isfinite(error)
        # the crop is `context` times the box's longer side
        side = network.config.input_size / context
        pixels = error * samples.pixel[:, None]
        figures = {"val_error_px": float(pixels[labelled].mean())}
        for source in dict.fromkeys(samples.source):
            chosen = labelled & (sources == source)[:, None]
            if chosen.any():
                figures[f"{source}/error_px"] = float(pixels[chosen].mean())
                figures[f"{source}/within_5pct"] = float((error[chosen] < 0.05 * side).mean())
        return figures

    return validate
