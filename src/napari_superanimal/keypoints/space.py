"""Keypoint spaces: an ordered vocabulary of keypoints with everything that belongs to it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from napari_superanimal.errors import UserError

BUILTIN_SPACES = (
    "superanimal_quadruped",
    "superanimal_topviewmouse",
    "superanimal_bird",
    "superanimal_humanbody",
)


@dataclass(frozen=True)
class KeypointSpace:
    """Ordered keypoint names with skeleton, left/right pairs, sigmas and colours.

    Attributes
    ----------
    name : str
    keypoints : tuple of str
        Ordered; a model's channel k is keypoint k.
    skeleton : tuple of (str, str)
    pairs : tuple of (str, str)
        (left, right) of every keypoint that exists on both sides.
    sigmas : tuple of float
        OKS falloff per keypoint, in units of the square root of the animal's area.
    colors : tuple of (int, int, int)
        RGB 0..255 per keypoint.
    front, rear : tuple of str
        Keypoints of the head and of the hind end; they tell which way an animal faces.
    """

    name: str
    keypoints: tuple[str, ...]
    skeleton: tuple[tuple[str, str], ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    sigmas: tuple[float, ...] = ()
    colors: tuple[tuple[int, int, int], ...] = ()
    front: tuple[str, ...] = ()
    rear: tuple[str, ...] = ()
    _index: dict[str, int] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        index = {name: i for i, name in enumerate(self.keypoints)}
        if len(index) != len(self.keypoints):
            raise ValueError(f"keypoint space {self.name!r} names a keypoint twice")
        mentioned = {n for pair in (*self.skeleton, *self.pairs) for n in pair}
        mentioned |= {*self.front, *self.rear}
        if unknown := sorted(mentioned - index.keys()):
            raise ValueError(f"keypoint space {self.name!r} does not contain {unknown}")
        paired = [n for pair in self.pairs for n in pair]
        if len(set(paired)) != len(paired):
            raise ValueError(f"keypoint space {self.name!r}: a keypoint has one partner at most")
        for what in ("sigmas", "colors"):
            if getattr(self, what) and len(getattr(self, what)) != len(self.keypoints):
                raise ValueError(f"keypoint space {self.name!r}: one of {what} per keypoint needed")
        object.__setattr__(self, "_index", index)

    def __len__(self) -> int:
        return len(self.keypoints)

    def index(self, keypoint: str) -> int:
        """Position of a keypoint.

        Raises
        ------
        KeyError
            If the space has no such keypoint.
        """
        return self._index[keypoint]

    def __contains__(self, keypoint: object) -> bool:
        return keypoint in self._index

    @property
    def swap(self) -> np.ndarray:
        """Permutation (K,) int64 that exchanges left and right, as a mirror does."""
        order = np.arange(len(self))
        for left, right in self.pairs:
            i, j = self._index[left], self._index[right]
            order[i], order[j] = j, i
        return order

    @property
    def edges(self) -> np.ndarray:
        """Skeleton as index pairs (E, 2) int64."""
        pairs = [(self._index[a], self._index[b]) for a, b in self.skeleton]
        return np.array(pairs, dtype=np.int64).reshape(-1, 2)

    def oks_sigmas(self) -> np.ndarray:
        """Sigmas (K,) float64; 0.1 (DeepLabCut's default) where the space gives none."""
        return np.array(self.sigmas or (0.1,) * len(self), dtype=np.float64)

    def to_json(self) -> dict[str, object]:
        """Plain data for a file; `from_json` reads it back."""
        return {
            "name": self.name,
            "keypoints": list(self.keypoints),
            "skeleton": [list(e) for e in self.skeleton],
            "pairs": [list(p) for p in self.pairs],
            "sigmas": list(self.sigmas),
            "colors": [list(c) for c in self.colors],
            "front": list(self.front),
            "rear": list(self.rear),
        }

    @staticmethod
    def from_json(data: dict) -> KeypointSpace:
        """Read what `to_json` wrote.

        Raises
        ------
        KeyError, ValueError
            If a field is missing or inconsistent.
        """
        return KeypointSpace(
            name=str(data["name"]),
            keypoints=tuple(data["keypoints"]),
            skeleton=tuple((a, b) for a, b in data.get("skeleton", ())),
            pairs=tuple((a, b) for a, b in data.get("pairs", ())),
            sigmas=tuple(float(s) for s in data.get("sigmas", ())),
            colors=tuple((int(r), int(g), int(b)) for r, g, b in data.get("colors", ())),
            front=tuple(data.get("front", ())),
            rear=tuple(data.get("rear", ())),
        )


@cache
def _builtin(name: str) -> KeypointSpace:
    resource = files("napari_superanimal.keypoints") / "data" / "spaces" / f"{name}.json"
    return KeypointSpace.from_json(json.loads(resource.read_text(encoding="utf-8")))


def load_space(name: str | Path) -> KeypointSpace:
    """A built-in space by name, or a user's own from a JSON file.

    Raises
    ------
    UserError
        If there is neither such a space nor such a file, or the file is not a space.
    """
    if str(name) in BUILTIN_SPACES:
        return _builtin(str(name))
    path = Path(name)
    if not path.is_file():
        raise UserError(
            f"unknown keypoint space {str(name)!r}",
            remedy=f"use one of {', '.join(BUILTIN_SPACES)} or a JSON file with name and keypoints",
        )
    try:
        return KeypointSpace.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"not a keypoint space ({error})", path=path, remedy="see docs/keypoint-spaces.md"
        ) from error


def space_from_names(keypoints: tuple[str, ...]) -> KeypointSpace:
    """A bare space for a dataset's own names; left/right pairs are read off the names.

    ``left_x``/``right_x``, ``x_left``/``x_right``, ``leftx``/``rightx`` and ``l_x``/``r_x`` pair up.
    """
    index = {k.lower(): k for k in keypoints}
    pairs: list[tuple[str, str]] = []
    taken: set[str] = set()
    for low, left in index.items():
        for a, b in (("left", "right"), ("l_", "r_"), ("_l", "_r")):
            starts, ends = low.startswith(a), low.endswith(a)
            if a == "left":
                mirrored = low.replace("left", "right", 1) if "left" in low else ""
            elif starts and a == "l_":
                mirrored = b + low[len(a) :]
            elif ends and a == "_l":
                mirrored = low[: -len(a)] + b
            else:
                mirrored = ""
            if mirrored in index and mirrored != low and not {low, mirrored} & taken:
                pairs.append((left, index[mirrored]))
                taken |= {low, mirrored}
                break
    return KeypointSpace(name="custom", keypoints=tuple(keypoints), pairs=tuple(pairs))
