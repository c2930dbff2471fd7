"""Keypoints that a model never knew are learned on their own first, with everything that it knows held still.

Their part of the head starts at random. Were all weights trained from the beginning, what the network sees would be
bent to suit these random weights, and what it knew be lost on the way; features that stay put until the new part fits
them end up better for the new keypoints, and for the old ones (Kumar et al. 2022, Fine-tuning can distort pretrained
features and underperform out-of-distribution).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from napari_superanimal.training.loop import LoopConfig, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from torch import Tensor, nn

    from napari_superanimal.jobs.progress import CancelToken, ProgressCallback
    from napari_superanimal.training.channels import ChannelRows

#: Steps, of those of the whole training, and at most; the peak learning rate against that of the training.
SHARE, MOST, FASTER = 1 / 6, 250, 15.0


def learn_new_first(
    network: nn.Module,
    rows: Sequence[ChannelRows],
    new: Sequence[int],
    batch_loss: Callable[[nn.Module, np.random.Generator], Tensor],
    loop: LoopConfig,
    *,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> None:
    """Train the weights of single channels in place; all others stay bit for bit what they are.

    Parameters
    ----------
    rows : sequence of ChannelRows
        Which weights belong to single channels.
    new : sequence of int
        The channels to train.
    batch_loss, on_progress, token
        As for `training.loop.run`.
    loop : LoopConfig
        Of the training that follows.

    Raises
    ------
    Cancelled
        When stopped; nothing of it is kept.
    """
    own = {row.name: row for row in rows}
    parameters = dict(network.named_parameters())
    trainable = {name: weight.requires_grad for name, weight in parameters.items()}
    hooks = []
    for name, weight in parameters.items():
        weight.requires_grad_(name in own)
        if name in own:
            chosen = torch.zeros_like(weight)
            for k in new:
                own[name].of({name: chosen}, k).fill_(1.0)
            hooks.append(weight.register_hook(chosen.mul))
    short = replace(
        loop,
        steps=max(1, min(round(SHARE * loop.steps), MOST)),
        learning_rate=FASTER * loop.learning_rate,
        weight_decay=0.0,
        frozen_statistics=True,
    )
    try:
        trained = run(
            network,
            batch_loss,
            short,
            # its steps are not those of the training, so neither are its figures
            on_progress=None if on_progress is None else (lambda p: on_progress(replace(p, values={}))),
            token=token,
            message="learning new keypoints",
        )
        network.load_state_dict(trained.state_dict())
    finally:
        for hook in hooks:
            hook.remove()
        for name, weight in parameters.items():
            weight.requires_grad_(trainable[name])
