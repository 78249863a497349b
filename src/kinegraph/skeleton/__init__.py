"""What a body is: skeleton layouts and the graphs that follow from them."""

from kinegraph.skeleton.graph import (
    adjacency,
    directed_adjacency,
    hop_distance,
    normalized_adjacency,
    partition_names,
)
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
    "LAYOUTS",
    "SkeletonLayout",
    "adjacency",
    "directed_adjacency",
    "get_layout",
    "hop_distance",
    "list_layouts",
    "normalized_adjacency",
    "partition_names",
    "read_layout",
    "register_layout",
]
