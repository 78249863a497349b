"""Every error that kinegraph raises on purpose.

::

    KinegraphError
    ├── UnknownNameError      a layout, reader, model, ... that is not registered
    ├── LayoutError           a skeleton layout that contradicts itself
    ├── ClipError             arrays that do not make a clip
    ├── ReadError             a raw file that cannot be read: which one, where, why
    ├── StoreError            a clip store that is missing, damaged or of another kind
    ├── ProtocolError         a split that this store cannot be divided by
    ├── TransformError        a transform that does not fit the clip it was given
    ├── ModelError            options that do not make a model, input that does not fit one
    ├── RecipeError           a recipe with mistakes, all of them listed
    ├── CheckpointError       a run or checkpoint that is missing, damaged or of another model
    ├── TrainingError         a training that cannot go on: memory, a process that was lost
    ├── BenchError            two sides of a benchmark that do not answer alike
    ├── ExportError           an export that cannot be had, or a file that is none
    ├── LiveError             a video, camera or pose estimator that cannot be had
    └── ClusterError          a cluster that cannot be reached, or a node that cannot work

Each message says what was expected, what came, where, and what to do. The command line prints
it as one sentence and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KinegraphError(Exception):
    """Base of all errors raised on purpose."""


class UnknownNameError(KinegraphError):
    """A name that no registry knows."""


class LayoutError(KinegraphError):
    """A skeleton layout that contradicts itself."""


class ClipError(KinegraphError):
    """Arrays that do not make a clip."""


class ReadError(KinegraphError):
    """A raw file that cannot be read."""


class StoreError(KinegraphError):
    """A clip store that is missing, damaged or of another kind."""


class ProtocolError(KinegraphError):
    """A split that this store cannot be divided by."""


class TransformError(KinegraphError):
    """A transform that does not fit the clip it was given."""


class ModelError(KinegraphError):
    """Options that do not make a model, or input that does not fit one."""


class RecipeError(KinegraphError):
    """A recipe with mistakes."""


class CheckpointError(KinegraphError):
    """A run or checkpoint that is missing, damaged or of another model."""


class TrainingError(KinegraphError):
    """A training that cannot go on."""


class BenchError(KinegraphError):
    """Two sides of a benchmark that do not answer alike."""


class ExportError(KinegraphError):
    """An export that cannot be had, or a file that is none."""


class LiveError(KinegraphError):
    """A video, camera or pose estimator that cannot be had."""


class ClusterError(KinegraphError):
    """A cluster that cannot be reached, or a node that cannot work."""


def suggest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name most like ``name``, or None if nothing is like it."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return close[0] if close else None


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not registered, with the nearest known one.

    >>> str(unknown_name("layout", "ntu-25", ["ntu25", "coco17"]))
    "unknown layout 'ntu-25' (did you mean 'ntu25'?); known: coco17, ntu25"
    """
    known = sorted(known)
    close = suggest_name(name, known)
    hint = f" (did you mean {close!r}?)" if close else ""
    return UnknownNameError(f"unknown {kind} {name!r}{hint}; known: {', '.join(known)}")
