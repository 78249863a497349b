"""NTU recordings in the .skeleton.npy files that the authors' script txt2npy.py writes.

A file holds one dictionary: file_name, nbodys, njoints and skel_body0, skel_body1, ... of shape
(T, 25, 3), with zeros in frames in which the sensor saw fewer bodies. The body ids are lost: body m
of each frame, in the order of the text file, is in skel_body{m}.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kinegraph.errors import ReadError
from kinegraph.readers.formats.numpy_file import read_npy_object
from kinegraph.readers.ntu.skeleton_file import NUM_JOINTS, BodyDetections


def read_npy_joints(path: Path) -> BodyDetections:
    """Return the joints of a recording, body by body; the id of a body is its place in a frame.

    Raises:
        ReadError: the file is not of this kind.
    """
    content = read_npy_object(path)
    content = content if isinstance(content, dict) else {}
    bodies = [content[key] for key in sorted(content, key=str) if str(key).startswith("skel_body")]
    shapes = {np.shape(body) for body in bodies}
    if len(shapes) != 1 or next(iter(shapes))[1:] != (NUM_JOINTS, 3):
        found = ", ".join(map(str, shapes)) or "none"
        raise ReadError(
            f"{path}: expected skel_body0, skel_body1, ... of one shape (frames, {NUM_JOINTS}, 3), "
            f"got {found}"
        )
    joints = np.stack([np.asarray(body, np.float64) for body in bodies], axis=1)
    seen = joints.any(axis=(2, 3))
    frames, places = np.nonzero(seen)
    return BodyDetections(len(joints), frames, [f"body{m}" for m in places], joints[seen])
