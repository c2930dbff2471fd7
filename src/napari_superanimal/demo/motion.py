"""How the rendered mice move: bouts of walking, pauses, turns, wall following, a tail that lags."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

BODY_SEGMENTS = 7
TAIL_SEGMENTS = 14
#: Position along the body (snout 0, tail base 1, tail end 2) of every simulated node.
NODES = np.concatenate(
    [
        [0.0, 0.15],
        np.linspace(0.30, 1.0, BODY_SEGMENTS + 1),
        1 + np.arange(1, TAIL_SEGMENTS + 1) / TAIL_SEGMENTS,
    ]
)
_HEAD = 0.30  # snout to neck, body lengths
_BURN_IN_S = 3.0
_MAX_STEP_S = 0.04


@dataclass(frozen=True)
class Arena:
    """The floor that the mice walk on, in pixels of the frame.

    Attributes
    ----------
    kind : "square" or "round"
    center, half : (float, float)
        x, y; half the width and height (both radii of an ellipse when round).
    """

    kind: Literal["square", "round"]
    center: tuple[float, float]
    half: tuple[float, float]

    def wall(self, x: float, y: float) -> tuple[float, float, float]:
        """Distance to the nearest wall (positive inside) and the unit vector that points away from it."""
        dx, dy = x - self.center[0], y - self.center[1]
        hx, hy = self.half
        if self.kind == "round":
            radius = math.hypot(dx / hx, dy / hy)
            if radius < 1e-6:
                return min(hx, hy), 1.0, 0.0
            gx, gy = -dx / (hx * hx), -dy / (hy * hy)
            norm = math.hypot(gx, gy)
            return (1 - radius) * radius / norm, gx / norm, gy / norm
        left, top = hx - abs(dx), hy - abs(dy)
        if left < top:
            return left, -math.copysign(1.0, dx), 0.0
        return top, 0.0, -math.copysign(1.0, dy)


@dataclass(frozen=True)
class Motion:
    """Simulated movement.

    Attributes
    ----------
    nodes : (T, A, len(NODES), 2) float64, px
        From the snout over the tail base to the tail's end.
    stretch : (T, A) float64
        Body length relative to the animal's own.
    gait : (T, A) float64
        Phase of the steps, radians.
    velocity : (T, A, 2) float64, px per frame
    lengths : (A,) float64, px
    """

    nodes: npt.NDArray[np.float64]
    stretch: npt.NDArray[np.float64]
    gait: npt.NDArray[np.float64]
    velocity: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.float64]


def simulate(
    rng: np.random.Generator,
    n_frames: int,
    arena: Arena,
    lengths: npt.NDArray[np.float64],
    *,
    fps: float,
    tail_length: float,
    activity: float = 1.0,
) -> Motion:
    """Let mice of the given body lengths (px) walk in `arena`; the same generator gives the same walk."""
    mice = [_Mouse(rng, arena, float(length), tail_length, activity) for length in lengths]
    for i, mouse in enumerate(mice):
        mouse.place_apart(mice[:i])
    substeps = max(1, math.ceil(1 / fps / _MAX_STEP_S))
    dt = 1 / fps / substeps
    for _ in range(round(_BURN_IN_S / dt)):
        for mouse in mice:
            mouse.step(dt, mice)
    count = len(mice)
    nodes = np.empty((n_frames, count, len(NODES), 2))
    stretch, gait = np.empty((n_frames, count)), np.empty((n_frames, count))
    velocity = np.empty((n_frames, count, 2))
    for frame in range(n_frames):
        before = [(m.x, m.y) for m in mice]
        for _ in range(substeps):
            for mouse in mice:
                mouse.step(dt, mice)
        for a, mouse in enumerate(mice):
            nodes[frame, a] = mouse.outline_nodes()
            stretch[frame, a], gait[frame, a] = mouse.stretch, mouse.gait
            velocity[frame, a] = mouse.x - before[a][0], mouse.y - before[a][1]
    return Motion(nodes, stretch, gait, velocity, np.asarray(lengths, np.float64))


def _wrap(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi


def _clamp(value: float, limit: float) -> float:
    return -limit if value < -limit else limit if value > limit else value


class _Mouse:
    """One animal: the neck is driven, the head aims, body and tail are dragged along."""

    def __init__(
        self, rng: np.random.Generator, arena: Arena, length: float, tail_length: float, activity: float
    ) -> None:
        self.rng, self.arena, self.length, self.activity = rng, arena, length, activity
        self.tail_step = tail_length * length / TAIL_SEGMENTS
        self.x, self.y = arena.center
        self.stretch, self.stretch_aim = 0.95, 0.95
        self.speed = self.speed_aim = 0.0
        self.turn = self.yaw = self.yaw_aim = self.curl = self.curl_aim = self.gait = self.scan = 0.0
        self.head = 1.0
        self.side = 0.0  # which way it turns away from a wall
        self.timer, self.state = 0.0, "walk"
        self.thigmotaxis = bool(rng.random() < 0.6)
        self._settle()

    def _settle(self) -> None:
        """Stand somewhere inside, stretched out in a random direction."""
        rng, (hx, hy) = self.rng, self.arena.half
        margin = 0.35 * self.length
        for _ in range(40):
            self.x = self.arena.center[0] + rng.uniform(-1, 1) * max(hx - margin, 0.1 * hx)
            self.y = self.arena.center[1] + rng.uniform(-1, 1) * max(hy - margin, 0.1 * hy)
            if self.arena.wall(self.x, self.y)[0] > margin:
                break
        self.heading = rng.uniform(-math.pi, math.pi)
        back = self.heading + math.pi
        steps = [0.1 * self.length] * BODY_SEGMENTS + [self.tail_step] * TAIL_SEGMENTS
        self.chain = [(self.x, self.y)]
        for step in steps:
            x, y = self.chain[-1]
            self.chain.append((x + step * math.cos(back), y + step * math.sin(back)))

    def place_apart(self, others: list[_Mouse]) -> None:
        for _ in range(30):
            if all(math.hypot(self.x - o.x, self.y - o.y) > 1.2 * self.length for o in others):
                return
            self._settle()

    def _decide(self) -> None:
        """Choose the next bout."""
        rng = self.rng
        self.state = str(
            rng.choice(["walk", "run", "pause", "groom", "rear"], p=[0.45, 0.13, 0.27, 0.08, 0.07])
        )
        self.yaw_aim = 0.0
        if self.state in ("walk", "run"):
            fast = rng.uniform(0.6, 2.2) if self.state == "walk" else rng.uniform(2.2, 4.5)
            self.speed_aim = fast * self.activity * self.length
            self.stretch_aim = rng.uniform(0.95, 1.06) if self.state == "walk" else rng.uniform(1.02, 1.14)
            self.timer = rng.uniform(0.6, 3.0)
        else:
            self.speed_aim = 0.0
            self.timer = rng.uniform(0.4, 2.2)
            self.stretch_aim = {"pause": rng.uniform(0.84, 1.0), "groom": 0.78, "rear": 0.74}[self.state]
            if self.state == "groom":
                self.yaw_aim = float(rng.choice([-1, 1])) * rng.uniform(0.5, 1.0)
        self.curl_aim = rng.normal(0, 0.11)

    def step(self, dt: float, mice: list[_Mouse]) -> None:
        """Advance by `dt` seconds."""
        rng, length = self.rng, self.length
        self.timer -= dt
        if self.timer <= 0:
            self._decide()
        noise = rng.standard_normal(2) * math.sqrt(dt)
        moving = min(1.0, self.speed / (0.8 * length))
        self.speed += (self.speed_aim - self.speed) * min(1.0, 4 * dt)
        self.stretch += (self.stretch_aim - self.stretch) * min(1.0, 4 * dt)
        self.head += ((0.82 if self.state == "groom" else 1.0) - self.head) * min(1.0, 5 * dt)
        self.curl += (self.curl_aim - self.curl) * min(1.0, 1.5 * dt)
        self.turn += -2.5 * self.turn * dt + 3.0 * self.activity * (0.25 + moving) * noise[0]
        steer, brake = self._steer(mice)
        self.heading += (self.turn * (0.3 + 0.7 * moving) + steer) * dt
        step = self.speed * brake * dt
        self.x += step * math.cos(self.heading)
        self.y += step * math.sin(self.heading)
        self.gait += step / length * 2 * math.pi * 2.2
        self.scan += -1.5 * self.scan * dt + (1.5 if self.state == "pause" else 0.5) * noise[1]
        aim = self.yaw_aim + _clamp(self.scan, 0.9) + 0.12 * (self.turn * moving + steer)
        if self.state == "groom":
            aim += 0.12 * math.sin(self.timer * 2 * math.pi * 4.5)
        self.yaw += (_clamp(aim, 1.15) - self.yaw) * min(1.0, 8 * dt)
        self._stay_inside()
        self._drag(dt)

    def _steer(self, mice: list[_Mouse]) -> tuple[float, float]:
        """Turning rate (rad/s) and brake (0..1) that walls and other mice ask for."""
        length = self.length
        cx, cy = math.cos(self.heading), math.sin(self.heading)
        ahead, nx, ny = self.arena.wall(self.x + 0.55 * length * cx, self.y + 0.55 * length * cy)
        steer, brake = 0.0, 1.0
        if ahead < 0.15 * length:
            if not self.side:  # turn on the same way until there is room: corners have two walls
                self.side = 1.0 if cx * ny - cy * nx > 0 else -1.0
            urgency = min(2.0, 1 - ahead / (0.15 * length))
            steer += self.side * 5.0 * (0.2 + urgency)
            brake = max(0.15, 1 - 0.6 * urgency)
        elif ahead < 0.3 * length:
            steer += self.side * 1.0
        else:
            self.side = 0.0
        if ahead >= 0.15 * length and self.thigmotaxis and not self.side:
            here, nx, ny = self.arena.wall(self.x, self.y)
            if here < 0.9 * length:  # keep parallel to the wall, a quarter length off
                along = cx * ny - cy * nx
                error = (here - 0.28 * length) / length - 0.6 * (cx * nx + cy * ny) * -1
                steer -= math.copysign(1.0, along) * _clamp(2.0 * error, 1.5)
        for other in mice:
            if other is self:
                continue
            for index in (0, 4):
                dx, dy = other.chain[index][0] - self.x, other.chain[index][1] - self.y
                distance = math.hypot(dx, dy)
                if distance < 0.9 * length and cx * dx + cy * dy > 0:
                    steer -= math.copysign(3.0, cx * dy - cy * dx) * (1 - distance / (0.9 * length))
                    brake = min(brake, max(0.1, distance / (0.9 * length)))
                if 1e-6 < distance < 0.42 * length:
                    push = 0.15 * (0.42 * length - distance) / distance
                    self.x -= dx * push
                    self.y -= dy * push
        return steer, brake

    def _stay_inside(self) -> None:
        room, nx, ny = self.arena.wall(self.x, self.y)
        if (short := 0.16 * self.length - room) > 0:
            self.x += short * nx
            self.y += short * ny
        tip_x, tip_y = self._snout()
        room, nx, ny = self.arena.wall(tip_x, tip_y)
        if (short := 0.01 * self.length - room) > 0:
            self.x += 0.5 * short * nx
            self.y += 0.5 * short * ny
            angle = self.heading + self.yaw
            self.yaw += 0.12 * math.copysign(1.0, math.cos(angle) * ny - math.sin(angle) * nx)

    def _snout(self) -> tuple[float, float]:
        reach = _HEAD * self.length * self.stretch * self.head
        angle = self.heading + self.yaw
        return self.x + reach * math.cos(angle), self.y + reach * math.sin(angle)

    def _drag(self, dt: float) -> None:
        """Body and tail follow their front ends, with limits on bending."""
        chain = self.chain
        chain[0] = (self.x, self.y)
        reference = self.heading + math.pi
        straighten = max(0.0, 1 - 1.2 * dt)
        for i in range(1, len(chain)):
            px, py = chain[i - 1]
            angle = math.atan2(chain[i][1] - py, chain[i][0] - px)
            bend = _wrap(angle - reference)
            if i <= BODY_SEGMENTS:
                step = 0.1 * self.length * self.stretch
                bend = _clamp(bend * straighten, 0.30)
            else:
                step = self.tail_step
                bend = _clamp(bend + (self.curl - bend) * min(1.0, 2.0 * dt), 0.34)
            reference += bend
            x, y = px + step * math.cos(reference), py + step * math.sin(reference)
            room, nx, ny = self.arena.wall(x, y)
            if room < 0:  # the tail and the rump slide along the wall
                x, y = x - room * nx, y - room * ny
            chain[i] = (x, y)

    def outline_nodes(self) -> npt.NDArray[np.float64]:
        """(len(NODES), 2) px, with the small sideways swing of a walking animal."""
        tip_x, tip_y = self._snout()
        half = 0.5 * _HEAD * self.length * self.stretch * self.head
        bend = self.heading + 0.55 * self.yaw
        middle = (self.x + half * math.cos(bend), self.y + half * math.sin(bend))
        points = np.array([(tip_x, tip_y), middle, *self.chain])
        swing = 0.012 * self.length * min(1.0, self.speed / self.length)
        normal = np.array([-math.sin(self.heading), math.cos(self.heading)])
        wave = np.sin(self.gait - 2.5 * NODES) * np.clip(NODES - 0.25, 0, 0.75)
        return points + swing * wave[:, None] * normal
