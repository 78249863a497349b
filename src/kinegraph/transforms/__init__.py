"""From clip to clip: normalisation, streams, sampling and augmentation, by name or in a pipeline.

Every transform is a function ``f(clip, rng, *, options) -> Clip``. Randomness comes from ``rng``
alone; ``rng=None`` means evaluation. Absent joints stay absent.
"""

from __future__ import annotations

from kinegraph.errors import unknown_name
from kinegraph.transforms.augment import (
    jitter,
    joint_dropout,
    mirror,
    person_swap,
    random_move,
    random_rotate,
    random_scale,
    random_shear,
    random_view,
)
from kinegraph.transforms.normalize import (
    center,
    center_box,
    flip_y,
    image_normalize,
    kinetics_normalize,
    minmax,
    scale,
    skeleton_norm,
)
from kinegraph.transforms.options import Transform
from kinegraph.transforms.orient import prenormalize
from kinegraph.transforms.presence import fill_missing, mask_confidence, persons
from kinegraph.transforms.sample import (
    auto_pad,
    crop_resize,
    downsample,
    drop_empty_frames,
    random_choose,
    random_frames,
    random_shift,
    repeat_pad,
    resize,
    trim,
    uniform_sample,
    zero_pad,
)
from kinegraph.transforms.streams import STREAMS, to_stream
from kinegraph.transforms.tensor import to_array

TRANSFORMS: dict[str, Transform] = {
    # which persons and joints
    "persons": persons,
    "mask_confidence": mask_confidence,
    "fill_missing": fill_missing,
    # place, size, direction
    "prenormalize": prenormalize,
    "center": center,
    "scale": scale,
    "center_box": center_box,
    "minmax": minmax,
    "image_normalize": image_normalize,
    "kinetics_normalize": kinetics_normalize,
    "skeleton_norm": skeleton_norm,
    "flip_y": flip_y,
    # frames
    "uniform_sample": uniform_sample,
    "random_frames": random_frames,
    "crop_resize": crop_resize,
    "resize": resize,
    "repeat_pad": repeat_pad,
    "zero_pad": zero_pad,
    "random_choose": random_choose,
    "auto_pad": auto_pad,
    "random_shift": random_shift,
    "downsample": downsample,
    "trim": trim,
    "drop_empty_frames": drop_empty_frames,
    # augmentation
    "random_move": random_move,
    "random_rotate": random_rotate,
    "random_view": random_view,
    "random_scale": random_scale,
    "random_shear": random_shear,
    "jitter": jitter,
    "joint_dropout": joint_dropout,
    "person_swap": person_swap,
    "mirror": mirror,
}


def get_transform(name: str) -> Transform:
    """The transform of this name.

    Raises:
        UnknownNameError: no such transform.
    """
    if name not in TRANSFORMS:
        raise unknown_name("transform", name, TRANSFORMS)
    return TRANSFORMS[name]


def list_transforms() -> list[str]:
    """The names of all transforms, sorted."""
    return sorted(TRANSFORMS)


# the pipeline looks transforms up by name, hence after the registry
from kinegraph.transforms.pipeline import (  # noqa: E402
    Pipeline,
    check_steps,
    parse_steps,
)

__all__ = [
    "STREAMS",
    "TRANSFORMS",
    "Pipeline",
    "Transform",
    "check_steps",
    "get_transform",
    "list_transforms",
    "parse_steps",
    "to_array",
    "to_stream",
]
