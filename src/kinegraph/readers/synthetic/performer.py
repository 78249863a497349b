"""Who acts in the synthetic data set: the habits of a performer, and one take with its clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from kinegraph.readers.synthetic.body import LEFT, RIGHT, Array, Pose, Proportions

FPS = 30.0
FEWEST_FRAMES, MOST_FRAMES = 25, 60

Key = tuple[float, ArrayLike]


@dataclass(frozen=True)
class Performer:
    """A body and its habits.

    Attributes:
        body: bone lengths.
        left_handed: acts with the left hand (and sometimes with the other one).
        tempo: 1 is usual, more is faster.
        amplitude: 1 is usual, more is larger.
        lean: of the trunk while standing, radians forward.
        flare: how far arms and elbows are held from the body.
        stance: how far the feet stand apart; 1 is below the hips.
        hand_on_hip: keeps an idle hand there.
    """

    body: Proportions = field(default_factory=Proportions)
    left_handed: bool = False
    tempo: float = 1.0
    amplitude: float = 1.0
    lean: float = 0.0
    flare: float = 0.1
    stance: float = 1.2
    hand_on_hip: bool = False

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Performer:
        """Anybody from one broad distribution, whichever split they end up in."""
        return cls(
            Proportions.draw(rng),
            left_handed=bool(rng.random() < 0.3),
            tempo=float(np.exp(rng.uniform(-0.28, 0.28))),
            amplitude=float(rng.uniform(0.7, 1.2)),
            lean=float(rng.uniform(-0.06, 0.14)),
            flare=float(rng.uniform(0.0, 0.25)),
            stance=float(rng.uniform(0.9, 1.8)),
            hand_on_hip=bool(rng.random() < 0.25),
        )


class Take:
    """One performer acting once: the clock, and the pose that the action bends.

    Attributes:
        who: the performer.
        rng: what the take draws from.
        progress: (T,) of the action, 0 until it begins and 1 once it is over.
        amplitude: of this take.
        pose: starts as idle standing.
    """

    def __init__(self, who: Performer, rng: np.random.Generator, progress: Array) -> None:
        self.who, self.rng, self.progress = who, rng, progress
        self.amplitude = float(np.clip(who.amplitude * rng.uniform(0.88, 1.12), 0.65, 1.3))
        self.pose = Pose(who.body, len(progress))
        _stand_idle(self)

    def curve(self, *keys: Key) -> Array:
        """Eased values through (progress, value) keys, whose times vary a little by take."""
        times = np.array([time for time, _ in keys])
        times[1:-1] += self.rng.normal(0.0, 0.02, len(times) - 2)
        times = np.maximum.accumulate(times)
        values = np.array([np.asarray(value, dtype=np.float64) for _, value in keys])
        at = np.clip(np.searchsorted(times, self.progress, side="right") - 1, 0, len(keys) - 2)
        share = (self.progress - times[at]) / np.maximum(times[at + 1] - times[at], 1e-6)
        eased = np.clip(share, 0, 1) ** 2 * (3 - 2 * np.clip(share, 0, 1))
        eased = eased.reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(values[at] + eased * (values[at + 1] - values[at]))

    def swing(self, fewest: float, most: float) -> Array:
        """(T,) in [-1, 1]: a number of cycles between the two over the whole action."""
        cycles, phase = self.rng.uniform(fewest, most), self.rng.uniform(0, 2 * np.pi)
        return np.asarray(np.sin(2 * np.pi * cycles * self.progress + phase))

    def drift(self, size: float) -> Array:
        """(T,): slow aimless motion of about that size."""
        seconds = np.arange(len(self.progress)) / FPS
        rates, phases = self.rng.uniform(0.15, 0.7, 2), self.rng.uniform(0, 2 * np.pi, 2)
        waves = np.sin(2 * np.pi * rates[:, None] * seconds + phases[:, None])
        return np.asarray(size * waves.sum(axis=0))

    def vary(self, size: float) -> Array:
        """(3,): a small displacement, the same over the take."""
        return self.rng.normal(0.0, size, 3)

    def turn_elbow(self, side: int, direction: ArrayLike) -> None:
        """Point an elbow elsewhere, the more the farther its hand is from where it began."""
        pose = self.pose
        moved = np.linalg.norm(pose.hands[side] - pose.hands[side, 0], axis=-1)
        share = np.clip(moved / (0.4 * pose.body.arm), 0, 1)[:, None]
        pose.elbows[side] += share * (np.asarray(direction) - pose.elbows[side])

    def maybe(self, chance: float) -> bool:
        """True that often."""
        return bool(self.rng.random() < chance)

    def rest(self, side: int) -> Array:
        """(3,): where the idle hand is when the take begins."""
        return self.pose.hands[side, 0].copy()


def _stand_idle(take: Take) -> None:
    pose, who = take.pose, take.who
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
    if who.hand_on_hip and take.maybe(0.7):
        pose.hands[LEFT] = pose.reach(LEFT, -0.05, -0.72, 0.05) + take.vary(0.02)
        pose.elbows[LEFT] = (-1.0, -0.2, 0.5)


def draw_progress(seconds: float, who: Performer, rng: np.random.Generator) -> Array:
    """(T,) from 0 to 1: how far an action of so many seconds is, with pauses at both ends."""
    frames = FPS * seconds / (who.tempo * rng.uniform(0.9, 1.1))
    before, after = rng.integers(0, 7, 2).tolist()
    total = int(np.clip(round(frames) + before + after, FEWEST_FRAMES, MOST_FRAMES))
    clock = (np.arange(total) - before) / (total - before - after - 1)
    return np.asarray(np.clip(clock, 0, 1) ** rng.uniform(0.8, 1.25))
