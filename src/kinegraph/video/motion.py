"""Motion of a body over a window of frames, and whether the body is still."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kinegraph.video.estimators.base import Array

STILL_MOTION = 0.01
"""Motion below which a body is still: 0.006 was measured for a plank, and less than 0.01 for 0.1 %
of the windows of Penn Action."""
SETTLING_FRAMES = 10
"""First frames of a person that do not count: a pose estimator that follows the body by the region
of the frame before settles in them."""
MIN_PRESENCE = 0.5  # share of the frames in which a joint must be visible


def measure_motion(frames: Sequence[Array]) -> float:
    """Return the largest standard deviation of a joint's position, in diagonals of the body.

    Movements of the whole body in the image, such as those of the camera, do not count: the
    median displacement of the joints is subtracted. Neither does the noise of a pose estimator,
    independent from frame to frame: its variance is a sixth of the mean square of a joint's second
    differences, and is subtracted from the variance. Real motion of less than 8 Hz has small second
    differences at 30 frames per second.

    Args:
        frames: joints (V, D) of each frame, NaN where absent.

    Returns:
        the motion; 0 if no joint is visible in half of the frames that show the body.
    """
    joints = np.stack(frames).astype(np.float64)
    seen = ~np.isnan(joints[..., 0])
    often = seen.sum(axis=0) >= max(1.0, MIN_PRESENCE * seen.any(axis=1).sum())
    joints = joints[seen[:, often].any(axis=1)][:, often]
    if not joints.size:
        return 0.0
    extent = np.nanmax(joints, axis=1) - np.nanmin(joints, axis=1)
    size = max(float(np.median(np.linalg.norm(extent, axis=1))), 1e-9)
    offset = joints - np.nanmedian(joints, axis=0)
    offset -= np.nanmedian(offset, axis=1, keepdims=True)
    variance = np.nanvar(offset, axis=0).sum(axis=1)
    second = offset[2:] - 2 * offset[1:-1] + offset[:-2]
    measured = np.maximum(1, (~np.isnan(second)).sum(axis=0))  # 0 where joints come and go
    noise = (np.nansum(second**2, axis=0) / measured).sum(axis=1) / 6
    return float(np.sqrt(np.maximum(variance - noise, 0).max())) / size
