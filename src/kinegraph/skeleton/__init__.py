"""What a body is: skeleton layouts and the graphs that follow from them."""

from kinegraph.skeleton.camera import CAMERAS, Camera, get_camera
from kinegraph.skeleton.graph import (
    adjacency,
    directed_adjacency,
    hop_distance,
    normalized_adjacency,
    partition_names,
)
from kinegraph.skeleton.joint_mapping import convert_joints, correspondence
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import (
    ALIASES,
    LAYOUTS,
    get_layout,
    list_layouts,
    read_layout,
    register_layout,
)

__all__ = [
    "ALIASES",
    "CAMERAS",
    "LAYOUTS",
    "Camera",
    "SkeletonLayout",
    "adjacency",
    "convert_joints",
    "correspondence",
    "directed_adjacency",
    "get_camera",
    "get_layout",
    "hop_distance",
    "list_layouts",
    "normalized_adjacency",
    "partition_names",
    "read_layout",
    "register_layout",
]
