"""What a user's keypoints are to a model: which it knows, which are new, and what the new model calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_superanimal.keypoints import ConversionTable, KeypointSpace, space_from_names
from napari_superanimal.keypoints.table import SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.models.card import ModelCard
    from napari_superanimal.models.trainable import TrainableModel

#: The space of a model that knows keypoints of its user's own.
CUSTOM = "custom"
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Vocabulary:
    """A model's keypoints together with those of the user that it never knew.

    Attributes
    ----------
    space : KeypointSpace
        The model's own where the user adds nothing to it.
    table : ConversionTable
        User's keypoint -> keypoint of `space`, for every keypoint of the user's.
    new : tuple of str
        Keypoints of `space` that are no keypoints of the model's space.
    """

    space: KeypointSpace
    table: ConversionTable
    new: tuple[str, ...]


def origin(names: Sequence[str], known: Sequence[str], table: ConversionTable | None) -> dict[str, str]:
    """Which of a model's `known` keypoints each of the user's starts from; those that it never knew are absent."""
    found = {}
    for name in names:
        target = (table.target(name) if table else name) or ""
        first = target.partition(SIDE)[0]
        if first in known:
            found[name] = first
    return found


def user_space(names: Sequence[str], source_of: dict[str, str], model: TrainableModel) -> KeypointSpace:
    """The user's keypoints as a space: pairs, skeleton, front and rear carried over through the mapping."""
    own = {target: name for name, target in source_of.items()}
    known = model.space
    pairs = [(own[a], own[b]) for a, b in known.pairs if a in own and b in own]
    paired = {n for pair in pairs for n in pair}
    pairs += [p for p in space_from_names(tuple(names)).pairs if not paired.intersection(p)]
    sigma = dict(zip(known.keypoints, known.oks_sigmas(), strict=True))
    color = dict(zip(known.keypoints, known.colors, strict=True)) if known.colors else {}
    colors = tuple(color.get(source_of.get(n, ""), WHITE) for n in names)
    return KeypointSpace(
        name=CUSTOM,
        keypoints=tuple(names),
        skeleton=tuple((own[a], own[b]) for a, b in known.skeleton if a in own and b in own),
        pairs=tuple(pairs),
        sigmas=tuple(float(sigma.get(source_of.get(n, ""), 0.1)) for n in names),
        colors=colors if color else (),
        front=tuple(own[k] for k in known.front if k in own),
        rear=tuple(own[k] for k in known.rear if k in own),
    )


def join_vocabularies(
    names: Sequence[str], space: KeypointSpace, table: ConversionTable | None
) -> Vocabulary:
    """The keypoints of `space` and, under the user's names, those of the user that the table does not map.

    A name that the space uses for another point gets ``_own`` appended. Without a table equal names are the same
    keypoint.

    Raises
    ------
    UserError
        If the table names a keypoint that the space lacks.
    """
    rows: list[tuple[str, str]] = []
    new: list[str] = []
    for name in names:
        target = table.target(name) if table else (name if name in space else None)
        if target is None:
            target = name
            while target in space or target in new:
                target += "_own"
            new.append(target)
        rows.append((name, target))
    joined = extend(space, new)
    complete = ConversionTable(table.name if table else "same names", tuple(rows), joined.name)
    complete.check(names, joined)
    return Vocabulary(joined, complete, tuple(new))


def extend(space: KeypointSpace, new: Sequence[str]) -> KeypointSpace:
    """`space` with more keypoints at its end; their left/right pairs follow from their names."""
    if not new:
        return space
    return KeypointSpace(
        name=CUSTOM,
        keypoints=(*space.keypoints, *new),
        skeleton=space.skeleton,
        pairs=(*space.pairs, *space_from_names(tuple(new)).pairs),
        sigmas=(*map(float, space.oks_sigmas()), *(0.1 for _ in new)),
        colors=(*space.colors, *(WHITE for _ in new)) if space.colors else (),
        front=space.front,
        rear=space.rear,
    )


def restrict(space: KeypointSpace, names: Sequence[str]) -> KeypointSpace:
    """Some keypoints of `space`, in the order given, with what belongs to them."""
    chosen = set(names)
    index = [space.index(n) for n in names]
    return KeypointSpace(
        name=space.name,
        keypoints=tuple(names),
        skeleton=tuple(e for e in space.skeleton if chosen.issuperset(e)),
        pairs=tuple(p for p in space.pairs if chosen.issuperset(p)),
        sigmas=tuple(space.sigmas[i] for i in index) if space.sigmas else (),
        colors=tuple(space.colors[i] for i in index) if space.colors else (),
        front=tuple(k for k in space.front if k in chosen),
        rear=tuple(k for k in space.rear if k in chosen),
    )


def one_sided(names: Sequence[str], space: KeypointSpace) -> bool:
    """Some keypoint says left or right and has no partner: a mirror image would teach it wrong."""
    paired = {n for pair in space.pairs for n in pair}
    return any(n not in paired and ("left" in n.lower() or "right" in n.lower()) for n in names)


def others(card: ModelCard, mapped: Sequence[str]) -> tuple[str, ...]:
    """Keypoints that a model knows and a user's labels lack: those that may be forgotten."""
    return tuple(k for k in card.keypoints if k not in set(mapped))
