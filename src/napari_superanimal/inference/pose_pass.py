"""One pass of the pose network over crops, alone or together with their mirror images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_superanimal.inference.decode import decode_keypoints, untangle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.models.networks import PoseNet


@dataclass(frozen=True)
class Symmetry:
    """What the two sides of a body mean for a network's channels.

    Attributes
    ----------
    pairs : tuple of (int, int)
        Channels of the same keypoint on both sides.
    mirror : tuple of int
        The channel that each channel becomes in the mirror image; near and far ones stay themselves.
    limbs : tuple of (int, int, int, int)
        Channels of joint and end of two limbs that may be taken for each other: joint, other joint, end, other end.
    """

    pairs: tuple[tuple[int, int], ...] = ()
    mirror: tuple[int, ...] = ()
    limbs: tuple[tuple[int, int, int, int], ...] = ()


def symmetry_of(channels: Sequence[str], space: KeypointSpace, side_canonical: bool) -> Symmetry:
    """The symmetry of a network with these channels; a keypoint without its partner counts as unpaired."""
    order = {name: i for i, name in enumerate(channels)}
    pairs = tuple((order[a], order[b]) for a, b in space.pairs if a in order and b in order)
    mirror = list(range(len(channels)))
    if not side_canonical:
        for i, j in pairs:
            mirror[i], mirror[j] = j, i
    return Symmetry(pairs, tuple(mirror), limbs_of(order, space) if side_canonical else ())


def limbs_of(channels: dict[str, int], space: KeypointSpace) -> tuple[tuple[int, int, int, int], ...]:
    """The limbs of a space: a pair at the ends of the skeleton, and the pair of joints that it hangs on."""
    hangs_on: dict[str, list[str]] = {}
    for a, b in space.skeleton:
        hangs_on.setdefault(a, []).append(b)
        hangs_on.setdefault(b, []).append(a)
    found = []
    for end, other in space.pairs:
        joints = hangs_on.get(end, []), hangs_on.get(other, [])
        if len(joints[0]) != 1 or len(joints[1]) != 1:
            continue
        names = (joints[0][0], joints[1][0], end, other)
        pair = names[:2] in space.pairs or names[1::-1] in space.pairs
        if pair and all(n in channels for n in names):
            found.append((channels[names[0]], channels[names[1]], channels[end], channels[other]))
    return tuple(found)


def pose_pass(
    network: PoseNet, crops: Tensor, symmetry: Symmetry, flip: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Keypoints of crops that `standardise` prepared.

    Parameters
    ----------
    crops : (N, 3, S, S)
    flip : bool
        Average probabilities and offsets with those of the mirror image, mirrored back.

    Returns
    -------
    xy : (N, K, 2) float32, crop px
    confidence : (N, K) float32, 0..1, raw
    embedding : (N, C) float32
    """
    out = network(crops)
    heatmaps, offsets = out.heatmaps.float(), out.offsets.float()
    if flip:
        mirrored = network(crops.flip(-1))
        order = list(symmetry.mirror)
        probability = (heatmaps.sigmoid() + mirrored.heatmaps.float().flip(-1)[:, order].sigmoid()) / 2
        heatmaps = torch.logit(probability, eps=1e-6)
        n, _, h, w = offsets.shape
        back = mirrored.offsets.float().flip(-1).view(n, -1, 2, h, w)[:, order]
        back = back * torch.tensor([-1.0, 1.0], device=back.device)[:, None, None]
        offsets = (offsets + back.reshape(n, -1, h, w)) / 2
    at, confidence = decode_keypoints(heatmaps, offsets, network.config.stride, symmetry.pairs)
    at, confidence = untangle(at, confidence, symmetry.limbs, crops.shape[-1])
    return at, confidence, out.embedding.float()
