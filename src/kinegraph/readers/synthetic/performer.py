"""The performers of the synthetic dataset with their habits, and single takes of an action."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from kinegraph.readers.synthetic.body import LEFT, RIGHT, BodyProportions, DoubleArray, Pose

SYNTHETIC_FPS = 30.0
MIN_TAKE_FRAMES, MAX_TAKE_FRAMES = 25, 60

Keyframe = tuple[float, ArrayLike]
Keyframes = list[Keyframe]


@dataclass(frozen=True)
class Performer:
    """A synthetic performer: a body and its habits."""

    body: BodyProportions = field(default_factory=BodyProportions)
    left_handed: bool = False  # whether the left hand acts (in some takes it is the other one)
    tempo: float = 1.0  # speed; 1 is usual, more is faster
    amplitude: float = 1.0  # size of motions; 1 is usual, more is larger
    lean: float = 0.0  # forward angle of the trunk while standing, radians
    flare: float = 0.1  # distance of arms and elbows from the body
    stance: float = 1.2  # distance of the feet; 1 is below the hips
    hand_on_hip: bool = False  # whether an idle hand rests on the hip

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Performer:
        """Draw a performer from one broad distribution, the same for every split."""
        return cls(
            BodyProportions.draw(rng),
            left_handed=bool(rng.random() < 0.3),
            tempo=float(np.exp(rng.uniform(-0.28, 0.28))),
            amplitude=float(rng.uniform(0.7, 1.2)),
            lean=float(rng.uniform(-0.06, 0.14)),
            flare=float(rng.uniform(0.0, 0.25)),
            stance=float(rng.uniform(0.9, 1.8)),
            hand_on_hip=bool(rng.random() < 0.25),
        )


class Take:
    """One performance of an action: its progress over time, and the pose that the action changes.

    Attributes:
        performer: the performer.
        rng: the random generator of the take.
        progress: (T,) of the action, 0 before it begins and 1 after its end.
        amplitude: size of motions in this take.
        pose: the pose, at first idle standing.
    """

    def __init__(
        self, performer: Performer, rng: np.random.Generator, progress: DoubleArray
    ) -> None:
        self.performer, self.rng, self.progress = performer, rng, progress
        self.amplitude = float(np.clip(performer.amplitude * rng.uniform(0.88, 1.12), 0.65, 1.3))
        self.pose = Pose(performer.body, len(progress))
        _apply_idle_pose(self)

    def curve(self, *keys: Keyframe) -> DoubleArray:
        """Return smooth values through (progress, value) keyframes; times vary with the take."""
        times = np.array([time for time, _ in keys])
        times[1:-1] += self.rng.normal(0.0, 0.02, len(times) - 2)
        times = np.maximum.accumulate(times)
        values = np.array([np.asarray(value, dtype=np.float64) for _, value in keys])
        at = np.clip(np.searchsorted(times, self.progress, side="right") - 1, 0, len(keys) - 2)
        share = (self.progress - times[at]) / np.maximum(times[at + 1] - times[at], 1e-6)
        eased = np.clip(share, 0, 1) ** 2 * (3 - 2 * np.clip(share, 0, 1))
        eased = eased.reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(values[at] + eased * (values[at + 1] - values[at]))

    def oscillate(self, min_cycles: float, max_cycles: float) -> DoubleArray:
        """Return (T,) in [-1, 1]: an oscillation with a random number of cycles in the range."""
        cycles, phase = self.rng.uniform(min_cycles, max_cycles), self.rng.uniform(0, 2 * np.pi)
        return np.asarray(np.sin(2 * np.pi * cycles * self.progress + phase))

    def drift(self, size: float) -> DoubleArray:
        """Return (T,): slow random motion of about that size."""
        seconds = np.arange(len(self.progress)) / SYNTHETIC_FPS
        rates, phases = self.rng.uniform(0.15, 0.7, 2), self.rng.uniform(0, 2 * np.pi, 2)
        waves = np.sin(2 * np.pi * rates[:, None] * seconds + phases[:, None])
        return np.asarray(size * waves.sum(axis=0))

    def jitter(self, size: float) -> DoubleArray:
        """Return (3,): a random displacement, constant over the take."""
        return self.rng.normal(0.0, size, 3)

    def turn_elbow(self, side: int, direction: ArrayLike) -> None:
        """Turn an elbow in proportion to the distance of its hand from where it began."""
        pose = self.pose
        moved = np.linalg.norm(pose.hands[side] - pose.hands[side, 0], axis=-1)
        share = np.clip(moved / (0.4 * pose.body.arm), 0, 1)[:, None]
        pose.elbows[side] += share * (np.asarray(direction) - pose.elbows[side])

    def happens(self, probability: float) -> bool:
        """Return True with that probability."""
        return bool(self.rng.random() < probability)

    def rest(self, side: int) -> DoubleArray:
        """Return (3,): the position of the idle hand when the take begins."""
        return self.pose.hands[side, 0].copy()


def _apply_idle_pose(take: Take) -> None:
    pose, who = take.pose, take.performer
    pose.lean += who.lean + take.drift(0.015)
    pose.tilt += take.drift(0.02)
    pose.twist += take.drift(0.04) + take.rng.normal(0, 0.05)
    pose.nod += take.drift(0.05) + take.rng.normal(0, 0.08)
    pose.root[:, 0] = take.drift(0.012)
    pose.root[:, 2] = take.drift(0.012)
    pose.ankles[..., 0] *= who.stance * take.rng.uniform(0.9, 1.2)
    for side in (LEFT, RIGHT):
        wander = np.stack([take.drift(0.01) for _ in range(3)], axis=1)
        pose.hands[side] = pose.reach(side, 0.10 + 0.6 * who.flare, -0.96, 0.08) + wander
        pose.elbows[side, :, 0] *= 1 + 3 * who.flare
    if who.hand_on_hip and take.happens(0.7):
        pose.hands[LEFT] = pose.reach(LEFT, -0.05, -0.72, 0.05) + take.jitter(0.02)
        pose.elbows[LEFT] = (-1.0, -0.2, 0.5)


def draw_progress(seconds: float, performer: Performer, rng: np.random.Generator) -> DoubleArray:
    """Return (T,) from 0 to 1: progress of an action over its seconds, with pauses at both ends."""
    frames = SYNTHETIC_FPS * seconds / (performer.tempo * rng.uniform(0.9, 1.1))
    before, after = rng.integers(0, 7, 2).tolist()
    total = int(np.clip(round(frames) + before + after, MIN_TAKE_FRAMES, MAX_TAKE_FRAMES))
    clock = (np.arange(total) - before) / (total - before - after - 1)
    return np.asarray(np.clip(clock, 0, 1) ** rng.uniform(0.8, 1.25))
