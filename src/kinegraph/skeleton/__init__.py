"""Skeleton layouts, their graphs, and the conversion of joints between them."""

from kinegraph.skeleton.graph import (
    GraphOptions,
    adjacency,
    directed_adjacency,
    hop_distance,
    hop_scales,
    identify_adjacency,
    normalized_adjacency,
    partition_names,
)
from kinegraph.skeleton.joint_mapping import convert_joints, map_joints
from kinegraph.skeleton.joint_names import find_joint
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import (
    LAYOUT_ALIASES,
    LAYOUTS,
    get_layout,
    list_layouts,
    read_layout,
    register_layout,
)
from kinegraph.skeleton.projection import CameraProjection, get_projection
from kinegraph.skeleton.space import KINECT, Space

__all__ = [
    "KINECT",
    "LAYOUTS",
    "LAYOUT_ALIASES",
    "CameraProjection",
    "GraphOptions",
    "SkeletonLayout",
    "Space",
    "adjacency",
    "convert_joints",
    "directed_adjacency",
    "find_joint",
    "get_layout",
    "get_projection",
    "hop_distance",
    "hop_scales",
    "identify_adjacency",
    "list_layouts",
    "map_joints",
    "normalized_adjacency",
    "partition_names",
    "read_layout",
    "register_layout",
]
