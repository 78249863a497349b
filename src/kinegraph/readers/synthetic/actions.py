"""The actions of the synthetic dataset, as curves of a pose over an action's progress.

Every action is written for a right-handed performer; size, tempo, amplitude, handedness, posture
and habits come from the performer and the take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kinegraph.readers.synthetic.body import LEFT, RIGHT, DoubleArray, mirror_joints, rotation_y
from kinegraph.readers.synthetic.performer import Keyframes, Performer, Take, draw_progress


def _draw_start_position(take: Take) -> DoubleArray:
    """Return the hand's start: at rest, or before the waist, already holding the object."""
    if take.happens(0.5):
        return take.rest(RIGHT)
    return take.pose.reach(RIGHT, -0.1, -0.5, 0.45) + take.jitter(0.03)


def _drink(take: Take) -> None:
    pose, start = take.pose, _draw_start_position(take)
    mouth = pose.mouth + np.array([0.03, -0.03, 0.0]) + take.jitter(0.02)
    end = start if take.happens(0.8) else mouth
    if take.happens(0.5):
        between = mouth + 0.35 * (start - mouth)
        keys: Keyframes = [(0, start), (0.25, mouth), (0.42, mouth), (0.55, between), (0.7, mouth)]
        tips: Keyframes = [(0, 0), (0.25, 0.1), (0.35, 1), (0.55, 0), (0.75, 1), (0.95, 0), (1, 0)]
    else:
        keys = [(0, start), (0.35, mouth), (0.7, mouth)]
        tips = [(0, 0), (0.35, 0.1), (0.55, 1), (0.75, 0.1), (1, 0)]
    pose.hands[RIGHT] = take.curve(*keys, (1, end))
    take.turn_elbow(RIGHT, (0.5 + 2 * take.performer.flare, -0.8, 0.1))
    pose.nod -= 0.35 * take.amplitude * take.curve(*tips)


def _answer_phone(take: Take) -> None:
    pose, start = take.pose, _draw_start_position(take)
    ear = pose.ear(RIGHT) + take.jitter(0.02)
    end = start if take.happens(0.45) else ear
    pose.hands[RIGHT] = take.curve((0, start), (0.3, ear), (0.75, ear), (1, end))
    pose.hands[RIGHT] += 0.012 * take.oscillate(1, 3)[:, None]
    take.turn_elbow(RIGHT, (0.6 + 2 * take.performer.flare, -0.8, 0.0))
    held = take.curve((0, 0), (0.35, 1), (1, 1))
    pose.tilt += 0.08 * take.amplitude * held
    pose.nod += take.rng.normal(0.05, 0.12) * held


def _wave(take: Take) -> None:
    pose, start = take.pose, take.rest(RIGHT)
    aside = take.rng.uniform(0.1, 0.45)
    up = pose.reach(RIGHT, aside, 0.30 + 0.30 * take.amplitude, 0.25) + take.jitter(0.04)
    end = start if take.happens(0.6) else up
    raised = take.curve((0, 0), (0.2, 1), (0.85, 1), (1, 1 if end is up else 0))
    pose.hands[RIGHT] = take.curve((0, start), (0.22, up), (0.82, up), (1, end))
    sideways = 0.16 * take.amplitude * take.oscillate(2.0, 4.5) * raised**3
    pose.hands[RIGHT, :, 0] += sideways
    pose.hands[RIGHT, :, 1] -= 0.3 * np.abs(sideways)
    take.turn_elbow(RIGHT, (0.7 + take.performer.flare, -0.7, 0.1))


def _clap(take: Take) -> None:
    pose = take.pose
    height, depth = take.rng.uniform(-0.45, 0.0), take.rng.uniform(0.45, 0.65)
    beat = 0.5 + 0.5 * take.oscillate(2.0, 4.0)
    gap = 0.03 + (0.10 + 0.14 * take.amplitude) * beat
    near = take.curve((0, 0), (0.18, 1), (0.85, 1), (1, 0 if take.happens(0.6) else 1))[:, None]
    for side, sign in ((LEFT, -1), (RIGHT, 1)):
        arm = pose.body.arm
        places = sign * gap, np.full_like(gap, height * arm), np.full_like(gap, -depth * arm)
        together = np.stack(places, axis=1) + take.jitter(0.008)
        pose.hands[side] += near * (together - pose.hands[side])
        take.turn_elbow(side, (sign * (0.5 + take.performer.flare), -0.8, 0.3))


def _throw(take: Take) -> None:
    pose, start, size = take.pose, take.rest(RIGHT), take.amplitude
    back = pose.reach(RIGHT, 0.30, 0.30 * size, -0.15) + take.jitter(0.03)
    ahead = pose.reach(RIGHT, -0.05, 0.25, 0.93) + take.jitter(0.04)
    through = pose.reach(RIGHT, -0.35, -0.55, 0.6) + take.jitter(0.05)
    pose.hands[RIGHT] = take.curve(
        (0, start), (0.38, back), (0.48, back), (0.62, ahead), (0.75, through), (1, start)
    )
    outwards, down = (1.0, -0.2, -0.1), (0.5, -0.7, 0.3)
    turns = take.curve((0, down), (0.35, outwards), (0.5, outwards), (0.7, down), (1, down))
    take.turn_elbow(RIGHT, turns)
    pose.twist += size * take.curve((0, 0), (0.42, -0.5), (0.65, 0.5), (1, 0))
    pose.lean += size * take.curve((0, 0), (0.42, -0.12), (0.68, 0.28), (1, 0))
    if take.happens(0.6):
        _step_forward(take, LEFT, 0.3, 0.3, 0.55)


def _step_forward(take: Take, side: int, length: float, begin: float, end: float) -> None:
    """Move one foot forward, where it stays; the pelvis follows about half the way."""
    went = length * take.curve((0, 0), (begin, 0), (end, 1), (1, 1))
    lifted = take.curve((0, 0), (begin, 0), ((begin + end) / 2, 1), (end, 0), (1, 0))
    take.pose.ankles[side, :, 2] -= went
    take.pose.ankles[side, :, 1] += 0.08 * lifted
    take.pose.root[:, 2] -= 0.55 * went
    take.pose.root[:, 1] -= 0.10 * np.abs(went)


def _punch(take: Take) -> None:
    pose, size = take.pose, take.amplitude
    guards = [pose.reach(s, -0.15, -0.1, 0.45) + take.jitter(0.03) for s in (LEFT, RIGHT)]
    target = pose.reach(RIGHT, -0.2, 0.02 + 0.1 * take.rng.normal(), min(0.98, 0.85 * size + 0.15))
    rest, guard = take.rest(RIGHT), guards[RIGHT]
    pose.hands[LEFT] = take.curve(
        (0, take.rest(LEFT)), (0.25, guards[LEFT]), (0.8, guards[LEFT]), (1, take.rest(LEFT))
    )
    if take.happens(0.5):
        hits: Keyframes = [(0.42, guard), (0.55, target), (0.75, guard)]
        turns: Keyframes = [(0.42, 0), (0.55, 1), (0.75, 0)]
    else:
        hits = [(0.30, guard), (0.40, target), (0.5, guard), (0.56, guard), (0.66, target)]
        hits += [(0.78, guard)]
        turns = [(0.30, 0), (0.40, 1), (0.5, 0), (0.56, 0), (0.66, 1), (0.78, 0)]
    pose.hands[RIGHT] = take.curve((0, rest), (0.25, guard), *hits, (1, rest))
    hit = take.curve((0, 0), *turns, (1, 0))
    pose.twist += 0.5 * size * hit
    pose.lean += 0.15 * hit
    if take.happens(0.5):
        _step_forward(take, LEFT, 0.25, 0.05, 0.3)


def _kick(take: Take) -> None:
    pose, size = take.pose, take.amplitude
    leg, base = pose.body.thigh + pose.body.shin, pose.ankles[RIGHT, 0].copy()
    back = base + np.array([0.0, 0.16 * leg, 0.22 * leg])
    outwards = take.rng.normal(-0.03, 0.05)
    up = base + np.array([outwards, 0.42 * size * leg, -0.75 * leg])
    pose.ankles[RIGHT] = take.curve(
        (0, base), (0.15, base), (0.35, back), (0.52, up), (0.62, up), (0.85, base), (1, base)
    )
    hit = take.curve((0, 0), (0.35, 0), (0.52, 1), (0.62, 1), (0.85, 0), (1, 0))
    off = take.curve((0, 0), (0.2, 1), (0.7, 1), (0.85, 0), (1, 0))
    pose.root[:, 0] -= 0.05 * off
    pose.lean -= 0.22 * size * hit
    pose.toes[RIGHT] -= 0.6 * hit
    pose.hands[LEFT] += hit[:, None] * [-0.05, 0.15 * size, -0.25 * size]
    pose.hands[RIGHT] += hit[:, None] * [0.12 * size, 0.06, 0.15 * size]


def _bend_to_seat(take: Take, seated: DoubleArray) -> None:
    """Bend the pose toward sitting on a chair behind, by shares (T,) of the way."""
    pose, body = take.pose, take.pose.body
    seat = body.shin + body.ankle + take.rng.uniform(0.0, 0.10)
    moving = 4 * seated * (1 - seated)
    pose.root[:, 1] -= seated * (body.hip_height - seat)
    pose.root[:, 2] += (0.85 * seated + 0.10 * moving) * body.thigh
    pose.lean += (0.35 + 0.25 * take.amplitude) * moving + take.rng.normal(0, 0.08) * seated
    pose.nod += 0.25 * moving
    for side in (LEFT, RIGHT):
        knee = pose.reach(side, 0.0, -0.72, 0.45) + take.jitter(0.03)
        pose.hands[side] += seated[:, None] * (knee - pose.hands[side])


def _sit_down(take: Take) -> None:
    _bend_to_seat(take, take.curve((0, 0), (0.12, 0), (0.8, 1), (1, 1)))


def _stand_up(take: Take) -> None:
    _bend_to_seat(take, take.curve((0, 1), (0.15, 1), (0.85, 0), (1, 0)))


def _squat(take: Take) -> None:
    pose, size = take.pose, take.amplitude
    if take.happens(0.5):
        keys: Keyframes = [(0, 0), (0.4, 1), (0.55, 1), (1, 0)]
    else:
        keys = [(0, 0), (0.22, 1), (0.45, 0.1), (0.52, 0.1), (0.75, 1), (1, 0)]
    down = take.curve(*keys)
    pose.root[:, 1] -= 0.45 * size * pose.body.hip_height * down
    pose.root[:, 2] += 0.12 * down
    pose.lean += (0.35 + 0.2 * size) * down
    if take.happens(0.65):
        for side in (LEFT, RIGHT):
            ahead = pose.reach(side, -0.1, 0.1, 0.85) + take.jitter(0.03)
            pose.hands[side] += down[:, None] * (ahead - pose.hands[side])


def _bow(take: Take) -> None:
    pose, size = take.pose, take.amplitude
    down = take.curve((0, 0), (0.1, 0), (0.45, 1), (0.6, 1), (1, 0))
    pose.lean += 0.85 * size * down
    pose.nod += 0.3 * size * down
    pose.root[:, 2] += 0.14 * size * down
    hang = take.rng.uniform(0.0, 0.6)
    for side in (LEFT, RIGHT):
        below = pose.reach(side, 0.05, -0.85, 0.1 + hang)
        pose.hands[side] += down[:, None] * (below - pose.hands[side])


def _push(take: Take) -> None:
    pose, size = take.pose, take.amplitude
    hit = take.curve((0, 0), (0.32, 0), (0.48, 1), (0.6, 1), (0.85, 0), (1, 0))
    for side in (LEFT, RIGHT):
        chest = pose.reach(side, -0.1, -0.2, 0.35) + take.jitter(0.02)
        ahead = pose.reach(side, -0.15, 0.0, 0.95) + take.jitter(0.02)
        rest = take.rest(side)
        pose.hands[side] = take.curve(
            (0, rest), (0.3, chest), (0.36, chest), (0.48, ahead), (0.6, ahead), (1, rest)
        )
    pose.lean += 0.22 * size * hit
    _step_forward(take, RIGHT, 0.30, 0.15, 0.45)


def _is_pushed(take: Take) -> None:
    pose, size = take.pose, take.amplitude
    hit = take.curve((0, 0), (0.45, 0), (0.58, 1), (0.68, 0.8), (0.95, 0), (1, 0))
    pose.lean -= 0.25 * size * hit
    pose.nod += 0.3 * hit
    _step_forward(take, RIGHT, -0.40 * size, 0.47, 0.66)
    for side in (LEFT, RIGHT):
        pose.hands[side] += hit[:, None] * (
            pose.reach(side, 0.3, -0.55, 0.5) + take.jitter(0.05) - pose.hands[side]
        )


@dataclass(frozen=True)
class SyntheticAction:
    """A synthetic action."""

    seconds: float  # its length at the usual tempo
    act: Callable[[Take], None]  # changes the pose of a take
    answer: Callable[[Take], None] | None = None  # the same for the other person of a mutual action


ACTIONS: dict[str, SyntheticAction] = {  # class name -> action; the order is that of the labels
    "drink": SyntheticAction(1.40, _drink),
    "answer phone": SyntheticAction(1.40, _answer_phone),
    "wave": SyntheticAction(1.40, _wave),
    "clap": SyntheticAction(1.30, _clap),
    "throw": SyntheticAction(1.30, _throw),
    "punch": SyntheticAction(1.20, _punch),
    "kick": SyntheticAction(1.20, _kick),
    "sit down": SyntheticAction(1.25, _sit_down),
    "stand up": SyntheticAction(1.25, _stand_up),
    "squat": SyntheticAction(1.35, _squat),
    "bow": SyntheticAction(1.40, _bow),
    "push": SyntheticAction(1.30, _push, _is_pushed),
}


def perform(
    action: SyntheticAction, performer: Performer, partner: Performer, rng: np.random.Generator
) -> DoubleArray:
    """Return joints (M, T, 25, 3) of one or two persons near the origin; one alone faces -z.

    Args:
        action: one of `ACTIONS`.
        performer: the acting person.
        partner: the other person of a mutual action.
        rng: the random generator of everything else.
    """
    progress = draw_progress(action.seconds, performer, rng)
    first = _act_out(action.act, performer, progress, rng)
    if action.answer is None:
        turned = _place_in_scene(first, float(rng.normal(0.0, 0.25)), rng.normal(0.0, 0.12, 3))
        return turned[None]
    second = _act_out(action.answer, partner, progress, rng)
    towards = np.pi / 2 if rng.random() < 0.5 else -np.pi / 2
    turn = towards + float(rng.normal(0.0, 0.2))
    # the pelvis moves 0.17 m closer, then the hands reach the other's chest
    distance = 0.20 + 0.95 * performer.body.arm
    ahead = 0.5 * distance * np.array([-np.sin(turn), 0.0, -np.cos(turn)])
    return np.stack(
        [_place_in_scene(first, turn, -ahead), _place_in_scene(second, turn + np.pi, ahead)]
    )


def _act_out(
    act: Callable[[Take], None],
    performer: Performer,
    progress: DoubleArray,
    rng: np.random.Generator,
) -> DoubleArray:
    take = Take(performer, rng, progress)
    act(take)
    joints = take.pose.joints()
    other_hand = take.happens(0.12)
    return mirror_joints(joints) if performer.left_handed != other_hand else joints


def _place_in_scene(joints: DoubleArray, turn: float, place: DoubleArray) -> DoubleArray:
    """Return joints turned to the left about the vertical and moved over the floor."""
    return np.asarray(joints @ rotation_y(turn).T + place * [1.0, 0.0, 1.0])
