"""Transforms of clips: normalization, streams, sampling and augmentation, and their pipelines."""

from kinegraph.transforms import (  # noqa: F401  each of them registers its transforms
    augment,
    mix_clips,
    normalize,
    orient,
    temporal_sampling,
    two_persons,
    visibility,
)
from kinegraph.transforms.convert_layout import convert_layout
from kinegraph.transforms.input_streams import STREAMS, to_stream
from kinegraph.transforms.pipeline import Pipeline, check_steps, parse_steps
from kinegraph.transforms.registry import TRANSFORMS, Transform
from kinegraph.transforms.to_model_input import to_array

__all__ = [
    "STREAMS",
    "TRANSFORMS",
    "Pipeline",
    "Transform",
    "check_steps",
    "convert_layout",
    "parse_steps",
    "to_array",
    "to_stream",
]
