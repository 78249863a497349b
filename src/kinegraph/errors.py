"""All exceptions that kinegraph raises on purpose.

The message of each says what is wrong, what was expected, what came, and what to do. The command
line prints it as one sentence and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KinegraphError(Exception):
    """Base class of all exceptions that kinegraph raises on purpose."""


class UnexpectedError(KinegraphError):
    """A failure of kinegraph itself, not of its input; the log has the traceback."""


class UnknownNameError(KinegraphError):
    """A name that is not registered: of a layout, reader, model, transform, ..."""


class LayoutError(KinegraphError):
    """A skeleton layout that is not valid, or that cannot be converted into another."""


class SpaceError(KinegraphError):
    """A statement about the space of coordinates that is wrong or does not fit."""


class ClipError(KinegraphError):
    """Arrays that do not form a valid clip."""


class ReadError(KinegraphError):
    """A raw file that cannot be read; the message names the file, the place and the reason."""


class StoreError(KinegraphError):
    """A clip store that is missing, damaged or of another format."""


class LockedError(KinegraphError):
    """A file or folder that another process is writing."""


class ProtocolError(KinegraphError):
    """A protocol that cannot split this store."""


class TransformError(KinegraphError):
    """A transform with invalid options, or one that does not fit the clip."""


class ModelError(KinegraphError):
    """Invalid options of a model, or input that does not fit it."""


class UntranslatableError(ModelError):
    """A model that computes something for which there is no inference layer."""


class RecipeError(KinegraphError):
    """A recipe with mistakes; the message lists all of them."""


class CheckpointError(KinegraphError):
    """A run or checkpoint that is missing, damaged or of another model."""


class TrainingError(KinegraphError):
    """A training that cannot continue, such as for lack of memory or a lost process."""


class BenchError(KinegraphError):
    """A benchmark whose two sides give different results."""


class FigureError(KinegraphError):
    """A figure that cannot be drawn as asked, or a figure file that cannot be written."""


class ExportError(KinegraphError):
    """An export that is not possible, or an exported file that is not valid."""


class VideoError(KinegraphError):
    """A video, camera or pose estimator that cannot be opened; a video that cannot be written."""


class ServerError(KinegraphError):
    """A server that cannot start with its options, or that has stopped unexpectedly."""


class ClusterError(KinegraphError):
    """A cluster that cannot be reached, or a node that cannot do its work."""


def install_command(extra: str) -> str:
    """Return what installs an extra of kinegraph, in the way in which kinegraph is installed.

    That is the package index, a version control system, or else a clone, whose path is left out
    because messages may be sent to clients.
    """
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        origin = distribution("kinegraph").read_text("direct_url.json")
    except PackageNotFoundError:
        origin = "{}"
    if origin is None:
        return f"pip install 'kinegraph[{extra}]'"
    facts = json.loads(origin)
    if "vcs_info" in facts:
        return f"pip install 'kinegraph[{extra}] @ {facts['vcs_info']['vcs']}+{facts['url']}'"
    return f"pip install '.[{extra}]' in the clone of kinegraph"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the hint " (did you mean ...?)" with the most similar known name, "" if none is.

    >>> did_you_mean("ntu-25", ["ntu25", "coco17"])
    " (did you mean 'ntu25'?)"
    """
    spelled = name.replace("+", "p")  # stgcn++ is stgcnpp
    close = difflib.get_close_matches(spelled, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return the error for a name that is not registered.

    >>> str(unknown_name("layout", "ntu-25", ["ntu25", "coco17"]))
    "unknown layout 'ntu-25' (did you mean 'ntu25'?); known: coco17, ntu25"
    """
    known = sorted(known)
    hint = did_you_mean(name, known)
    return UnknownNameError(f"unknown {kind} {name!r}{hint}; known: {', '.join(known)}")
