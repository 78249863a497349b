"""Class names of the public datasets, by label."""

from __future__ import annotations

from functools import cache
from importlib import resources

from kinegraph.errors import ReadError, unknown_name

_NTU60_CLASSES = 60

_UNNAMED_SETS = {  # datasets without class names in this package, each with the reason
    "fsd10": "its 30 classes have no public names; use the label numbers",
}


def class_names(set_name: str) -> tuple[str, ...]:
    """Return the class names of a dataset: `class_names("ntu60")[0]` is "drink water".

    Raises:
        ReadError: the dataset has no class names here.
        UnknownNameError: the class set is unknown.
    """
    if set_name in _UNNAMED_SETS:
        raise ReadError(f"no class names for {set_name!r}: {_UNNAMED_SETS[set_name]}")
    if set_name not in _load_class_names():
        raise unknown_name("class set", set_name, _load_class_names())
    return _load_class_names()[set_name]


def list_class_sets() -> list[str]:
    """Return the datasets with class names, sorted."""
    return sorted(_load_class_names())


@cache
def _load_class_names() -> dict[str, tuple[str, ...]]:
    import yaml

    text = resources.files("kinegraph.readers").joinpath("class_names.yaml").read_text("utf-8")
    names = {key: tuple(values) for key, values in yaml.safe_load(text).items()}
    return {**names, "ntu60": names["ntu120"][:_NTU60_CLASSES]}
