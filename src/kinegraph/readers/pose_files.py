"""Readers of pose estimators' results: from the poses of each frame to clips, the same for all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.body_checks import describe_misfit
from kinegraph.clips.clip import Clip, MetaValue
from kinegraph.errors import ReadError
from kinegraph.readers.formats.json_file import MAX_FRAMES
from kinegraph.readers.formats.raw_file import describe, read_head
from kinegraph.readers.formats.table_file import read_csv_rows
from kinegraph.readers.person_selection import (
    PoseArray,
    PoseSelection,
    limit_scores,
    selection_options,
)
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask, check_fps
from kinegraph.readers.space_options import SPACE_OPTIONS, SpaceOptions
from kinegraph.skeleton.body_axes import find_up_axis
from kinegraph.skeleton.joint_names import find_joint
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import LAYOUTS, get_layout, read_layout
from kinegraph.skeleton.space import MAX_SHARE, Space, guess_image_unit

#: The layout of a pose of so many joints, if nothing else states it.
USUAL_LAYOUTS = {
    15: "mpi15",
    17: "coco17",
    18: "openpose18",
    25: "body25",
    26: "halpe26",
    133: "coco_wholebody133",
    136: "halpe136",
}
#: What else has so many joints, for the note about the guess.
_ALSO_POSSIBLE = {25: "BODY_25B is --layout body25b", 17: "Human3.6M is --layout h36m17"}

FRAME_NUMBER = re.compile(r"(?<!\d)\d{1,18}(?!\d)")
FRAME_NAMES = "video_000000000012_keypoints.json, cam01_000012.json, cam01.0030.json or 0012.json"
_LABEL_FILE = "labels.csv"
_LAYOUT_SUFFIXES = (".yaml", ".yml", ".json")
_MAX_LABEL = 100_000
_NUM_SAMPLED_POSES = 200  # poses from which the unit is guessed


class FramePoses(NamedTuple):
    """The poses of one frame, each (V, D + 1): coordinates and score; NaN and 0 where not seen.

    ``ids`` are the track ids of the poses, None where the file has none.
    """

    poses: list[PoseArray]
    ids: list[int | None]


class VideoFiles(NamedTuple):
    """The files of one video: a file or a folder, the clip's name, and the prefix of its files."""

    path: Path
    name: str
    prefix: str = ""


@dataclass(frozen=True)
class PoseVideo:
    """The poses of one video as its files state them.

    Attributes:
        numbers: sorted numbers of the frames that the files have; a missing one has no person.
        read_frame: returns the poses of a frame by its number; raises ReadError.
        joint_names: the names of the joints, if the files have them.
        size: width and height of the image in pixels, if the files have them.
        unit: ``pixel`` or ``share``, if the format fixes it.
        notes: what was guessed in the files.
    """

    numbers: Sequence[int]
    read_frame: Callable[[int], FramePoses]
    joint_names: tuple[str, ...] = ()
    size: tuple[float, float] | None = None
    unit: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def from_frames(cls, frames: Mapping[int, FramePoses], **facts: Any) -> PoseVideo:
        """Return the video of frames that are all read."""
        return cls(sorted(frames), frames.__getitem__, **facts)


@dataclass(frozen=True)
class PoseFormat:
    """A format of pose files.

    Attributes:
        name, summary, matches: see `Reader`.
        find_videos: returns the videos of a source; raises ReadError if it has none.
        open_video: returns the video of some files, given the layout that the user states or None;
            raises ReadError.
        tracking: the default way to link poses over time.
    """

    name: str
    summary: str
    matches: Callable[[Path], bool]
    find_videos: Callable[[Path], list[VideoFiles]]
    open_video: Callable[[VideoFiles, SkeletonLayout | None], PoseVideo]
    tracking: str = "ids"

    def make_reader(self) -> Reader:
        """Return the reader of this format."""
        return Reader(
            name=self.name,
            summary=self.summary,
            scan=partial(_scan, self),
            read=partial(_read, self),
            matches=self.matches,
            options={
                "layout": "a registered layout or a layout file (default: by the joints)",
                "fps": "frames per second of the video",
                "width": "width of the video in pixels, for models of normalized coordinates",
                "height": "height of the video in pixels",
                **selection_options(self.tracking, 50),
                **SPACE_OPTIONS,
            },
            protocols=("holdout",),
        )


def has_person(pose: PoseArray) -> bool:
    """Return whether any joint of a pose was seen."""
    return bool((pose[:, -1] > 0).any())


@dataclass(frozen=True)
class PoseFacts:
    """What holds for all videos of a source: layout and space, and notes about guesses."""

    layout: SkeletonLayout
    space: Space
    notes: list[str] = field(default_factory=list)


def find_facts(
    form: PoseFormat,
    source: Path,
    videos: Sequence[VideoFiles],
    layout: str | SkeletonLayout = "",
    stated: Mapping[str, str] | None = None,
) -> PoseFacts:
    """Find layout and space from the first video in which a person is seen.

    Raises:
        ReadError: no file can be read, no person is in any of them, or the layout or the space is
            neither stated nor known.
    """
    wanted = _resolve_layout(layout) if layout else None
    failed: list[str] = []
    for files in videos:
        try:
            video = form.open_video(files, wanted)
        except ReadError as error:
            failed.append(str(error))
            continue
        poses = list(islice(_iterate_poses(video, failed), _NUM_SAMPLED_POSES))
        if not poses:
            continue
        count = len(poses[0])
        chosen, notes = (wanted, []) if wanted else _guess_layout(files.path, count, video)
        check_joint_count(poses[0], chosen, files.path)
        same = np.stack([pose for pose in poses if pose.shape == poses[0].shape])
        points = np.where(same[..., -1:] > 0, same[..., :-1], np.float32(np.nan))
        space = _resolve_space(points, chosen, video.unit, stated or {})
        if notes:
            notes += _check_guess(points, chosen, space)
        if space.kind == "image" and find_up_axis(points[..., :2], chosen) == "y":
            notes.append("the bodies are upside down in the first frames: does y grow upwards?")
        return PoseFacts(chosen, space, notes)
    if failed:
        more = f" (and {len(failed) - 1} more such files)" if len(failed) > 1 else ""
        raise ReadError(f"{failed[0]}{more}")
    raise ReadError(f"{source}: expected a person in at least one frame, but no frame has one")


def _iterate_poses(video: PoseVideo, failed: list[str]) -> Iterator[PoseArray]:
    for number in video.numbers:
        try:
            yield from filter(has_person, video.read_frame(number).poses)
        except ReadError as error:  # reading that clip reports it
            failed.append(str(error))


def _resolve_layout(layout: str | SkeletonLayout) -> SkeletonLayout:
    if isinstance(layout, str) and Path(layout).suffix in _LAYOUT_SUFFIXES:
        return read_layout(layout)
    return get_layout(layout)


def _guess_layout(path: Path, count: int, video: PoseVideo) -> tuple[SkeletonLayout, list[str]]:
    for layout in LAYOUTS.values():
        if _has_names(layout, video.joint_names):
            return layout, []
    if video.joint_names:
        raise ReadError(
            f"{path}: no registered layout has the joints {', '.join(video.joint_names)}, in this "
            "order: name a layout or a layout file with --layout"
        )
    if count not in USUAL_LAYOUTS:
        known = ", ".join(f"{n} ({name})" for n, name in USUAL_LAYOUTS.items())
        raise ReadError(
            f"{path}: people of {count} joints; the layout is known for {known}: name another "
            "with --layout, a layout's name or a layout file"
        )
    name = USUAL_LAYOUTS[count]
    other = _ALSO_POSSIBLE.get(count, "name another with --layout")
    return get_layout(name), [f"the layout {name} is a guess by the {count} joints; {other}"]


def _check_guess(points: NDArray[np.float32], layout: SkeletonLayout, space: Space) -> list[str]:
    """Return a note if the joints cannot be in the order of the guessed layout."""
    misfit = describe_misfit(Clip(points[None], layout, space=space))
    return [misfit] if "they fit" in misfit else []


def _has_names(layout: SkeletonLayout, names: Sequence[str]) -> bool:
    """Return whether a layout has joints of these names, in this order."""
    if len(names) != layout.num_joints:
        return False
    return all(find_joint(layout, name) == joint for joint, name in enumerate(names))


def check_joint_count(pose: PoseArray, layout: SkeletonLayout, path: Path) -> None:
    """Raise ReadError if a pose has another number of joints than a layout."""
    if len(pose) != layout.num_joints:
        raise ReadError(
            f"{path}: expected people of the {layout.num_joints} joints of layout "
            f"{layout.name!r}, found {len(pose)} joints; name the layout with --layout"
        )


def _resolve_space(
    points: NDArray[np.float32], layout: SkeletonLayout, unit: str, stated: Mapping[str, str]
) -> Space:
    if points.shape[-1] == 3 or set(stated) - {"unit"}:
        return SpaceOptions(**{"unit": unit, **stated}).resolve(points, layout)
    unit, guess = stated.get("unit") or unit, guess_image_unit(points)
    # joints outside of [-2, 2] are surely in pixels
    return Space("image", unit=unit or guess, assumed=not unit and guess == "share")


def _scan(
    form: PoseFormat,
    source: Path,
    *,
    layout: str | SkeletonLayout = "",
    fps: float | None = None,
    width: float | None = None,
    height: float | None = None,
    max_persons: int = 2,
    tracking: str = "",
    candidates: int = 50,
    **stated: str,
) -> ReadPlan:
    """Scan a source: a video, or a folder of them with an optional ``labels.csv``."""
    selection = PoseSelection(max_persons, tracking or form.tracking, candidates)
    check_fps(fps)
    size = _image_size(width, height)
    videos = form.find_videos(source)
    labels, classes = _read_label_file(source / _LABEL_FILE)
    facts = find_facts(form, source, videos, layout, stated)
    info = {
        "selection": selection,
        "fps": fps,
        "size": size,
        "layout": facts.layout,
        "stated": bool(layout),
        "space": facts.space,
        "notes": facts.notes,
    }
    tasks = [
        ReadTask(
            files.path,
            {"id": files.name, "prefix": files.prefix, "label": labels.get(files.name), **info},
        )
        for files in videos
    ]
    return ReadPlan(tasks, facts.layout, classes, _list_others(form, source, videos))


def _list_others(
    form: PoseFormat, source: Path, videos: Sequence[VideoFiles]
) -> tuple[tuple[Path, str], ...]:
    """Return the files below a folder with the suffix of its videos that belong to none of them."""
    read = {files.path for files in videos}
    suffixes = {path.suffix.lower() for path in read if path.is_file()}
    paths = sorted(source.rglob("*")) if source.is_dir() else []
    return tuple(
        (path, f"it is not {form.name} data, or it is damaged: expected {form.summary}")
        for path in paths
        if path.suffix.lower() in suffixes and not path.is_dir()
        if read.isdisjoint((path, path.parent))
    )


def _read_label_file(path: Path) -> tuple[dict[str, int], tuple[str, ...] | None]:
    """Return clip -> label, and the class names; names are numbered in alphabetical order."""
    if not path.is_file():
        return {}, None
    rows: dict[str, str] = {}
    for number, row in read_csv_rows(path):
        cells = [cell.strip() for cell in row]
        if number == 1 and cells == ["clip", "label"]:
            continue
        if len(cells) != 2 or not all(cells):
            raise ReadError(f"{path}:{number}: expected clip,label, got {describe(row)}")
        rows[cells[0]] = cells[1]
    words = sorted({word for word in rows.values() if not word.isdecimal()})
    if not words:
        numbered = {clip: int(word) for clip, word in rows.items() if len(word) < 10}
        if len(numbered) < len(rows) or max(numbered.values(), default=0) >= _MAX_LABEL:
            raise ReadError(f"{path}: expected labels below {_MAX_LABEL}")
        return numbered, None
    if any(word.isdecimal() for word in rows.values()):
        raise ReadError(f"{path}: expected either numbers or names as labels, found both")
    return {clip: words.index(word) for clip, word in rows.items()}, tuple(words)


def _image_size(width: float | None, height: float | None) -> tuple[float, float] | None:
    if width is None and height is None:
        return None
    for name, value in (("width", width), ("height", height)):
        if not isinstance(value, int | float) or not 1 <= value <= 1e6:
            raise ReadError(
                f"expected width and height of the video in pixels, both or none, "
                f"got {name} {value!r}"
            )
    return width, height  # type: ignore[return-value]


def _read(form: PoseFormat, task: ReadTask) -> ReadResults:
    """Yield the clip of a video; its frames count from the first number of its files."""
    info, layout = task.info, task.info["layout"]
    files = VideoFiles(task.path, info["id"], info["prefix"])
    video = form.open_video(files, layout if info["stated"] else None)
    frames = _read_frames(video, files)
    poses = {number: frame.poses for number, frame in frames.items()}
    for pose in chain.from_iterable(poses.values()):
        check_joint_count(pose, layout, task.path)
    notes = [*video.notes]
    ids = _find_ids(frames, notes)
    selection: PoseSelection = info["selection"]
    persons = selection.select(poses, max(frames, default=0) + 1, layout.num_joints, ids)
    if not len(persons):
        raise ReadError(f"{task.path}: expected a person in at least one frame, but none has one")
    notes += selection.describe_left_out(poses.values(), len(persons))
    confidence, capped = limit_scores(persons[..., -1])
    _check_unit(persons[..., :2], info["space"], task.path)
    size = info["size"] or video.size
    meta: dict[str, MetaValue] = {"width": size[0], "height": size[1]} if size else {}
    yield task.make_clip(
        persons[..., :-1],
        layout,
        confidence=confidence,
        fps=info["fps"],
        meta=meta,
        notes=[*notes, *capped],
    )


def _read_frames(video: PoseVideo, files: VideoFiles) -> dict[int, FramePoses]:
    """Return the poses by frame, counted from the first number of the video."""
    numbers = video.numbers
    if not numbers:
        return {}
    if numbers[-1] - numbers[0] >= MAX_FRAMES:
        raise ReadError(
            f"{files.path}: expected at most {MAX_FRAMES} frames, but their numbers run "
            f"from {numbers[0]} to {numbers[-1]}"
        )
    frames = {}
    for number in numbers:
        poses, ids = video.read_frame(number)
        seen = [has_person(pose) for pose in poses]
        frames[number - numbers[0]] = FramePoses(
            [pose for pose, here in zip(poses, seen, strict=True) if here],
            [one for one, here in zip(ids, seen, strict=True) if here],
        )
    return frames


def _find_ids(
    frames: Mapping[int, FramePoses], notes: list[str]
) -> dict[int, list[int | None]] | None:
    """Return the track ids by frame if all poses have one that is theirs alone in the frame."""
    ids = {number: frame.ids for number, frame in frames.items()}
    given = [one for one in chain.from_iterable(ids.values()) if one is not None]
    if not given:
        return None
    if any(len(set(frame)) < len(frame) for frame in ids.values()):
        notes.append("track ids that two poses of a frame share are not used; poses are matched")
        return None
    if len(given) < sum(map(len, ids.values())):
        notes.append("track ids that some poses lack are not used; poses are matched")
        return None
    return ids


def _check_unit(points: NDArray[np.float32], space: Space, path: Path) -> None:
    if space.kind == "image" and space.unit == "share":
        largest = float(np.fmax.reduce(np.abs(points), axis=None, initial=0))
        if largest > MAX_SHARE:
            raise ReadError(
                f"{path}: expected shares of the image, as in the first file, but a coordinate is "
                f"{largest:.4g}; convert files in pixels apart, or state --unit"
            )


def group_images(
    source: Path, paths: Sequence[Path], one_image: re.Pattern[bytes]
) -> list[VideoFiles]:
    """Return each file as a video, but a folder of files of one image each as one video.

    Args:
        source: the folder or file that the user named.
        paths: its pose files.
        one_image: matches the beginning of a file of one image.
    """
    if source.is_file():
        return name_videos(source, paths)
    folders = {path.parent for path in paths if one_image.match(read_head(path))}
    files = [path for path in paths if path.parent not in folders]
    return name_videos(source, sorted([*folders, *files]))


def list_pose_files(source: Path, accept: Callable[[Path], bool], expected: str) -> list[Path]:
    """Return the file of a source, or the accepted files below a folder, sorted.

    Raises:
        ReadError: the folder has no such file; the message says how many files it has.
    """
    if source.is_file():
        return [source]
    inside = sorted(path for path in source.rglob("*") if path.is_file())
    found = [path for path in inside if accept(path)]
    if not found:
        example = f", such as {inside[0].relative_to(source)}" if inside else ""
        files = "1 file" if len(inside) == 1 else f"{len(inside)} files"
        raise ReadError(f"{source}: expected {expected}, but none of its {files} is one{example}")
    return found


def number_files(folder: Path) -> dict[int, Path]:
    """Return the frame files of a folder by frame number.

    It is the last number of each name, or the first one if names begin with different numbers and
    are else equal (0012_cam01.json).

    Raises:
        ReadError: no name has a number, or two files have the same one.
    """
    paths = [path for path in folder.iterdir() if path.suffix.lower() == ".json"]
    named = {path: FRAME_NUMBER.findall(path.stem) for path in sorted(paths) if path.is_file()}
    files = [path for path, numbers in named.items() if numbers]
    if not files:
        raise ReadError(
            f"{folder}: expected frames named like {FRAME_NAMES}, but none of its {len(paths)} "
            ".json files has a frame number in its name"
        )
    rests = {FRAME_NUMBER.sub("", path.stem, count=1) for path in files}
    leading = all(path.stem[0].isdigit() for path in files) and len(rests) == 1
    frames: dict[int, Path] = {}
    for path in files:
        number = int(named[path][0 if leading else -1])
        if number in frames:
            raise ReadError(
                f"{folder}: expected one file per frame, but {frames[number].name} and {path.name} "
                f"are both of frame {number}; give each video its own folder"
            )
        frames[number] = path
    return frames


def name_videos(source: Path, paths: Iterable[Path]) -> list[VideoFiles]:
    """Return one video per path, named by its place in the source.

    A file of the same name in every folder, such as alphapose-results.json, is named by its folder.
    """
    paths = list(paths)
    if len(paths) == 1:
        return [VideoFiles(paths[0], paths[0].resolve().stem)]
    names = [path.relative_to(source).with_suffix("") for path in paths]
    if len({name.name for name in names}) == 1:
        names = [name.parent for name in names]
    return [VideoFiles(p, n.as_posix()) for p, n in zip(paths, names, strict=True)]
