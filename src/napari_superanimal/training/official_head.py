"""Fine-tuning of SuperAnimal's networks: their crops, their targets and losses, under the mask that all heads share.

Targets and losses are the reference's (spec section 4.1): gaussians of 11.3 px and squared errors for heatmaps, a Huber
loss for offsets within 17 px, Kullback-Leibler divergence of softened scores for coordinates in half pixels. The
networks count pixels from the corner of the crop and give keypoints in pixels of the frame as these are written in
files; crops here are counted from pixel centres. `to_network` and `from_network` lead from one to the other.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_superanimal.inference.official.crops import MEAN, STD, top_down_crop
from napari_superanimal.inference.official.decode import decode_heatmaps, decode_simcc
from napari_superanimal.models.official.build import PoseNetwork, build_pose
from napari_superanimal.models.official.catalogue import release_of_card
from napari_superanimal.models.official.networks import LOCREF_STD, DeconvHead, HeatmapOutput
from napari_superanimal.models.official.rtmpose import SPLIT, RTMPose, SimccOutput
from napari_superanimal.training.channels import ChannelRows
from napari_superanimal.training.distributed import Shard
from napari_superanimal.training.head import Head
from napari_superanimal.training.targets import mask_total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.inference.pose_pass import Symmetry
    from napari_superanimal.models.official.catalogue import Release
    from napari_superanimal.models.official.load import OfficialPose
    from napari_superanimal.training.pose_stage import Batch
    from napari_superanimal.training.rehearsal import Rehearsal
    from napari_superanimal.training.samples import PoseSamples

#: Distance of a keypoint within which offsets are learned, px of the crop, and width of its gaussian.
REACH = 17.0
SIGMA = 2 * REACH / 3
#: Weight of offsets beside heatmaps, and steepness of the softmax of coordinate scores in the loss.
OFFSETS, STEEP = 0.05, 10.0
#: The reference fine-tunes with 1e-5 over hundreds of passes, and trains new heads with 1e-4.
RATES = {"replay": 1e-4, "naive": 1e-4, "backbone": 3e-4, "scratch": 1e-3}

Floats = npt.NDArray[np.float32]


def official_head(model: OfficialPose) -> Head:
    """The head of one of SuperAnimal's pose networks."""
    network, release = model.network, release_of_card(model.card)
    width, height = network.input_size
    return Head(
        size=max(width, height),
        aspect=width / height,
        cutter=cut,
        rows=rows_of(network),
        shared=("heads.",),
        rates=RATES,
        keeps_statistics=True,
        build=partial(fresh, release),
        loss=loss,
        predict=predict,
    )


def fresh(release: Release, keypoints: int) -> PoseNetwork:
    """A network whose keypoints start by saying "nothing here", as the reference's new heads do."""
    network = build_pose(release, keypoints)
    for module in network.modules():
        if isinstance(module, DeconvHead):
            nn.init.normal_(module.deconv_layers[0].weight, std=0.001)  # type: ignore[arg-type]
            nn.init.zeros_(module.deconv_layers[0].bias)  # type: ignore[arg-type]
    return network


def rows_of(network: PoseNetwork) -> tuple[ChannelRows, ...]:
    """Which weights belong to single keypoints.

    Of RTMPose that is the layer before keypoints look at each other; all that follows is shared.
    """
    if isinstance(network, RTMPose):
        layer = "heads.bodypart.final_layer"
        return ChannelRows(f"{layer}.weight"), ChannelRows(f"{layer}.bias")
    found: list[ChannelRows] = []
    for part, width in (("heatmap_head", 1), ("locref_head", 2)):
        layer = f"heads.bodypart.{part}.deconv_layers.0"
        if f"{layer}.bias" in dict(network.named_parameters()):
            # weights of transposed convolutions are (inputs, outputs, height, width)
            found += [ChannelRows(f"{layer}.weight", 1, width), ChannelRows(f"{layer}.bias", 0, width)]
    return tuple(found)


def cut(
    frame: npt.NDArray[np.uint8], left: float, top: float, side: float, size: int
) -> tuple[Tensor, float, float, float]:
    """`inference.crops.cut` with the reference's resampling."""
    x, y, n = round(left), round(top), max(round(side), 2)
    crop = top_down_crop(frame, np.array([x, y, n, n], np.float64), (size, size))
    pixels = np.zeros((size, size, 3), np.uint8) if crop is None else crop.pixels
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1), float(x), float(y), float(n)


def to_network(points: Tensor, pixel: Tensor, margin: Tensor) -> Tensor:
    """Points (N, K, 2) in px of square crops, counted from pixel centres, as the networks count.

    Parameters
    ----------
    pixel : (N,) px of the frame per px of the crop
    margin : (2,) what the network does not see of the square's left and top, px
    """
    return points - margin + 0.5 - 0.5 / pixel[:, None, None]


def from_network(points: Tensor, pixel: Tensor, margin: Tensor) -> Tensor:
    """Inverse of `to_network`."""
    return points + margin - 0.5 + 0.5 / pixel[:, None, None]


def window(images: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The middle (N, 3, height, width) of square crops 0..255, normalised, and the margin (2,) around it, px."""
    width, height = size
    left, top = (images.shape[-1] - width) // 2, (images.shape[-2] - height) // 2
    seen = images[..., top : top + height, left : left + width].float() / 255.0
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    ready = ((seen - mean) / deviation).contiguous(memory_format=torch.channels_last)
    return ready, torch.tensor([left, top], dtype=torch.float32)


def loss(network: nn.Module, batch: Batch, rehearsal: Rehearsal | None) -> Tensor:
    """Masked loss of a batch; what is rehearsed is learned as the starting network answers on the crop at hand."""
    core = _core(network)
    size = core.input_size
    images, margin = window(batch.images, size)
    points, codes, old = to_network(batch.points, batch.pixel, margin), batch.codes, None
    taken = torch.zeros(codes.shape, dtype=torch.bool)
    if rehearsal is not None and batch.asked is not None:
        with torch.no_grad():
            old = pick_channels(rehearsal.teacher(images), rehearsal.channels)
        has = torch.tensor([channel is not None for channel in rehearsal.channels])
        seen = decode(core, old)[0]
        taken = batch.asked & has & torch.isfinite(seen).all(-1)
        points, codes = torch.where(taken[..., None], seen, points), codes.masked_fill(taken, 2)
    out = network(images)
    if isinstance(out, SimccOutput):
        assert isinstance(core, RTMPose)
        assert old is None or isinstance(old, SimccOutput)
        return simcc_loss(out, points, codes, core.config.sigma, size, old, taken)
    assert not isinstance(core, RTMPose)
    assert old is None or isinstance(old, HeatmapOutput)
    return heatmap_loss(out, points, codes, core.stride, size, old, taken)


def _core(network: nn.Module) -> PoseNetwork:
    """The network itself, also where several processes share its batch."""
    core = network.network if isinstance(network, Shard) else network
    assert isinstance(core, PoseNetwork)
    return core


def decode(network: PoseNetwork, out: HeatmapOutput | SimccOutput) -> tuple[Tensor, Tensor]:
    """Keypoints (N, K, 2) as the network counts pixels, NaN where not found, and scores (N, K)."""
    if isinstance(out, SimccOutput):
        assert isinstance(network, RTMPose)
        return decode_simcc(out, network.config.sigma)
    assert not isinstance(network, RTMPose)
    return decode_heatmaps(out, network.stride)


def pick_channels(
    out: HeatmapOutput | SimccOutput, channels: Sequence[int | None]
) -> HeatmapOutput | SimccOutput:
    """Outputs in another order of channels; where there is none, that of the first channel stands in."""
    index = torch.tensor([channel or 0 for channel in channels])
    if isinstance(out, SimccOutput):
        return SimccOutput(out.x.float()[:, index], out.y.float()[:, index])
    heatmaps = out.heatmaps.float()
    if out.offsets is None:
        return HeatmapOutput(heatmaps[:, index], None)
    n, k, h, w = heatmaps.shape
    offsets = out.offsets.float().view(n, k, 2, h, w)[:, index]
    return HeatmapOutput(heatmaps[:, index], offsets.flatten(1, 2))


def heatmap_loss(
    out: HeatmapOutput,
    points: Tensor,
    codes: Tensor,
    stride: int,
    size: tuple[int, int],
    old: HeatmapOutput | None = None,
    taken: Tensor | None = None,
) -> Tensor:
    """Squared error of heatmaps and Huber loss of offsets near the keypoint, over defined keypoints.

    Both are relative to the squared gaussian: a network that sees nothing has a loss of about 1 per keypoint there.

    Parameters
    ----------
    points : (N, K, 2) as the network counts pixels, NaN where missing
    codes : (N, K) visibility: -1 weighs nothing, 0 is learned as absent
    size : (width, height) of the crop, px
    old, taken : HeatmapOutput and (N, K) bool, optional
        The starting network's outputs, and where they are the target.
    """
    heatmaps = out.heatmaps.float()
    n, k, h, w = heatmaps.shape
    drawn = (codes > 0) & _inside(points, size)
    target, apart = gaussians(
        torch.where(drawn[..., None], points, torch.full_like(points, -1e4)), h, w, stride
    )
    near = apart.square().sum(2)
    use = None if old is None or taken is None else taken[..., None, None]
    if use is not None and old is not None:
        target = torch.where(use, old.heatmaps, target)
    weight = (codes >= 0).float()
    total = mask_total(weight)
    bump = math.pi * SIGMA**2 / stride**2
    value = ((heatmaps - target).square().sum((-2, -1)) * weight).sum() / (bump * total)
    if out.offsets is None:
        return value
    given = out.offsets.float().view(n, k, 2, h, w)
    aim = apart / LOCREF_STD
    if use is not None and old is not None and old.offsets is not None:
        aim = torch.where(use[:, :, None], old.offsets.view(n, k, 2, h, w), aim)
    reach = (near <= REACH**2).float()
    far = F.huber_loss(given, torch.where(reach[:, :, None] > 0, aim, given.detach()), reduction="none").sum(
        2
    )
    astray = (far * reach).sum((-2, -1)) / reach.sum((-2, -1)).clamp_min(1.0)
    # the mean over cells of the squared error is to that of the Huber loss as in the reference
    return value + OFFSETS * (h * w / bump) * (astray * weight).sum() / (2 * total)


def simcc_loss(
    out: SimccOutput,
    points: Tensor,
    codes: Tensor,
    sigma: tuple[float, float],
    size: tuple[int, int],
    old: SimccOutput | None = None,
    taken: Tensor | None = None,
) -> Tensor:
    """Divergence of the scores of all x and all y from softened gaussians, over keypoints that have a place.

    A network that only classifies coordinates cannot say "not here": keypoints that are defined and not labelled have
    no weight either. Parameters as in `heatmap_loss`.
    """
    drawn = (codes > 0) & _inside(points, size)
    at = torch.where(drawn[..., None], points * SPLIT, torch.zeros_like(points)).round()
    weight = drawn.float() if taken is None else (drawn | taken).float()
    total = mask_total(weight)
    value = out.x.new_zeros(())
    for axis, scores in enumerate(out):
        bins = torch.arange(scores.shape[-1], dtype=torch.float32)
        target = torch.exp(-(bins - at[..., axis, None]).square() / (2 * sigma[axis] ** 2))
        if old is not None and taken is not None:
            target = torch.where(taken[..., None], old[axis], target)
        log = (STEEP * scores.float()).log_softmax(-1)
        each = F.kl_div(log, (STEEP * target).softmax(-1), reduction="none").sum(-1)
        value = value + (each * weight).sum() / total
    return value


def gaussians(points: Tensor, height: int, width: int, stride: int) -> tuple[Tensor, Tensor]:
    """Target heatmaps (N, K, H, W) of points (N, K, 2), and the way (N, K, 2, H, W) px from every cell to its point."""
    apart = points[..., None, None] - _cells(height, width, stride)
    return torch.exp(-apart.square().sum(2) / (2 * SIGMA**2)), apart


def _inside(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Which points (N, K, 2) lie in the crop: as far as the network can see, others are absent."""
    limit = torch.tensor(size, dtype=points.dtype)
    return torch.isfinite(points).all(-1) & ((points >= 0) & (points < limit)).all(-1)


def _cells(height: int, width: int, stride: int) -> Tensor:
    """Centres (2, H, W) of heatmap cells, x and y, as the networks count pixels."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y]).float() * stride + stride / 2


@torch.inference_mode()
def predict(
    network: nn.Module, samples: PoseSamples, symmetry: Symmetry, batch_size: int = 16
) -> tuple[Floats, Floats, Floats]:
    """Keypoints and truth (N, K, 2) in px of the crop, and scores (N, K); see `head.Head`."""
    network.eval()
    core = _core(network)
    room = samples.crops.shape[-1]
    side = max(core.input_size)
    cut_off = (room - side) // 2
    points, scores = [], []
    for start in range(0, len(samples), batch_size):
        part = slice(start, start + batch_size)
        shown = samples.crops[part, :, cut_off : cut_off + side, cut_off : cut_off + side]
        images, margin = window(shown, core.input_size)
        at, score = decode(core, network(images))
        points.append(from_network(at, torch.from_numpy(samples.pixel[part]), margin).numpy())
        scores.append(score.numpy())
    return np.concatenate(points), np.concatenate(scores), samples.xy - cut_off
