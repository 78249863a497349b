"""Pages of the reference, made from the program itself: commands, API, readers, server and so on.

`PAGES` maps the path of each page in the site to the function that returns its Markdown.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

import kinegraph
from kinegraph.cli import app, main
from kinegraph.readers import READERS
from kinegraph.skeleton.layouts import LAYOUT_ALIASES, LAYOUTS
from kinegraph.training.recipe import Recipe
from kinegraph.transforms import TRANSFORMS
from kinegraph.transforms.validation import describe_annotation

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
FOLDER = "reference/"
ASSETS = "site.css", "favicon.svg", "worker.js"
MAX_WIDTH = 1400  # pixels of a picture
#: Rooms with a page of the Python interface, and what they are for.
API_ROOMS = {
    "skeleton": "Skeleton layouts, their graphs, and conversion of joints between layouts.",
    "clips": "Clips, and stores of clips.",
    "readers": "Reading of raw files, and their conversion to stores.",
    "writers": "Clips of a store as the files of other tools.",
    "transforms": "From clip to clip, and from clip to model input.",
    "models": "Model families: create a model, list them, add one.",
    "training": "Recipes and training.",
    "inference": "Recognition, evaluation, streams, taught models and counting.",
    "errors": "The exceptions that kinegraph raises on purpose.",
}


# --------------------------------------------------------------------- commands


def cli_page() -> str:
    """Return the page of the commands, with the help of each as the program prints it."""
    from typer.main import get_command

    group: Any = get_command(app)
    context = group.context_class(group, info_name="kinegraph")
    lines = [
        "# Commands",
        "",
        f"{group.help} `kinegraph COMMAND --help` prints what this page contains.",
        "",
        "A mistake in the input ends a command with exit code 2 and one sentence; Ctrl-C with 130, "
        "SIGTERM with 143.",
        "",
        *_list_parameters(group, context),
    ]
    for name, command in group.commands.items():
        lines += _describe_command(name, command, context, level=2)
    return "\n".join(lines) + "\n"


def _describe_command(name: str, command: Any, parent: Any, level: int) -> Iterator[str]:
    context = command.context_class(command, parent=parent, info_name=name)
    words = [command.name, *command.collect_usage_pieces(context)]
    yield from ("", f"{'#' * level} {name}", "")
    yield from ("```text", " ".join([context.command_path, *words[1:]]), "```", "")
    yield from (_plain(command.help or ""), "")
    yield from _list_parameters(command, context)
    for sub, inner in getattr(command, "commands", {}).items():
        yield from _describe_command(sub, inner, context, level + 1)


def _list_parameters(command: Any, context: Any) -> Iterator[str]:
    """Yield the arguments and options of a command as `--help` describes them."""
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in parameter.opts:
            term, text = record
            yield from (f"`{term}`", f":   {_plain(text)}", "")


def _plain(text: str) -> str:
    """Return a help text as Markdown: paragraphs keep their lines, angle brackets are shown."""
    return inspect.cleandoc(text).replace("<", "&lt;")


# --------------------------------------------------------------------- Python interface


def api_index() -> str:
    """Return the overview of the Python interface: every public name with its first line."""
    lines = [
        "# Python interface",
        "",
        "`import kinegraph as kg` gives the names of this table. They are imported on first use, "
        "so that the import takes a fraction of a second. The other names of these pages are "
        "imported from their packages. What no page lists is internal and may change.",
        "",
        "| name | |",
        "|---|---|",
    ]
    for name in kinegraph.__all__:
        room = _module_of(name).split(".")[1]
        target = f"{room}.md#{_module_of(name)}.{name}"
        first = str(inspect.getdoc(getattr(kinegraph, name))).split("\n")[0]
        lines.append(f"| [`kg.{name}`]({target}) | {first.replace('``', '`')} |")
    return "\n".join(lines) + "\n"


def api_page(room: str) -> str:
    """Return the page of a room: its public names, with their docstrings by mkdocstrings."""
    lines = [f"# kinegraph.{room}", "", API_ROOMS[room], ""]
    for name, identifier in list_api(room).items():
        heading = f"kg.{name}" if name in kinegraph.__all__ else name
        lines += [f"::: {identifier}", "    options:", f"      heading: {heading}", ""]
        lines += [f"      toc_label: {heading}", ""]
    return "\n".join(lines)


def list_api(room: str) -> dict[str, str]:
    """Return the identifiers of the documented names of a room, the public ones first."""
    found = {
        name: f"{_module_of(name)}.{name}"
        for name in kinegraph.__all__
        if _module_of(name).split(".")[1] == room
    }
    package = __import__(f"kinegraph.{room}", fromlist=["__all__"])
    if room == "errors":
        classes = [value for value in vars(package).values() if inspect.isclass(value)]
        names = [one.__name__ for one in classes if one.__module__ == package.__name__]
        return {name: f"kinegraph.errors.{name}" for name in names}
    for name in getattr(package, "__all__", ()):
        if name not in found and inspect.getdoc(getattr(package, name)):
            found[name] = f"kinegraph.{room}.{name}"
    return found


def _module_of(name: str) -> str:
    return kinegraph._MODULE_OF[name]


# --------------------------------------------------------------------- recipes and transforms


def recipe_schema() -> str:
    """Return the JSON schema of recipes, for editors."""
    return json.dumps(Recipe.model_json_schema(), indent=1)


def recipe_page() -> str:
    """Return the page of the types and ranges of the keys of a recipe."""
    schema = Recipe.model_json_schema()
    lines = [
        "# Types of recipe keys",
        "",
        "This page has the type and range of each key; [recipes](../recipes.md#keys) has its "
        "meaning and default. Editors check and complete recipes by the "
        "[JSON schema](recipe.schema.json): save it, and begin a recipe with "
        "`# yaml-language-server: $schema=recipe.schema.json`.",
        "",
        "| key | type |",
        "|---|---|",
    ]
    for key, field in _list_fields(schema, schema):
        lines.append(f"| `{key}` | {_describe_type(field, schema)} |")
    return "\n".join(lines) + "\n"


def _list_fields(part: Any, schema: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in part.get("properties", {}).items():
        inner = _resolve(field, schema)
        if inner.get("properties") and field.get("$ref"):
            yield from _list_fields(inner, schema, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _resolve(part: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = part.get("$ref", "").rpartition("/")[2]
    known = schema.get("$defs") or schema.get("components", {}).get("schemas", {})
    return known.get(reference, part)


_RANGES = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_TYPES = {
    "integer": "whole number", "number": "number", "string": "text", "boolean": "true or false",
    "object": "mapping", "null": "null", "array": "list",
}  # fmt: skip


def _describe_type(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return a type of a JSON schema in words."""
    if reference := part.get("$ref", "").rpartition("/")[2]:
        return f"`{reference}`"
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if "const" in part:
        return f"`{part['const']}`"
    for choice in ("anyOf", "oneOf"):
        if choice in part:
            return " or ".join(_describe_type(one, schema) for one in part[choice])
    kinds = part.get("type", "")
    if isinstance(kinds, list):
        return " or ".join(_describe_type({**part, "type": kind}, schema) for kind in kinds)
    text = _TYPES.get(kinds, "any value")
    if part.get("type") == "array" and isinstance(part.get("items"), dict) and part["items"]:
        text += f" of: {_describe_type(part['items'], schema)}"
    ranges = [f"{sign} {part[key]:g}" for key, sign in _RANGES.items() if key in part]
    lengths = [f"{word} {part[key]} items" for key, word in
               (("minItems", "at least"), ("maxItems", "at most")) if key in part]  # fmt: skip
    return ", ".join([text, *ranges, *lengths])


_SCOPES = {
    "frame": "A frame of the result depends on the same frame only.",
    "history": "A frame of the result depends on this frame and those before it.",
    "clip": "A frame of the result depends on the whole clip.",
}


def transforms_page() -> str:
    """Return the page of the transforms: docstrings, types of options, use in streams."""
    lines = [
        "# Transforms",
        "",
        "The steps of the key `transforms` of a recipe, with the types of their options. "
        "[Recipes](../recipes.md#transforms) has the table of all steps and their defaults at a "
        "glance, the [gallery](gallery.md#transforms) has pictures.",
        "",
    ]
    for name, transform in TRANSFORMS.items():
        lines += [f"## {name}", "", f"::: {transform.function.__module__}.{name}"]
        lines += [
            "    options:",
            "      show_root_heading: false",
            "      show_root_toc_entry: false",
            "",
        ]
        for key, annotation in transform.options.items():
            lines += [f"`{key}`", f":   {describe_annotation(annotation)}", ""]
        facts = ["Training only." if transform.random else "Training and evaluation."]
        facts += ["Streams leave it out." if transform.pads else _SCOPES[transform.scope]]
        if transform.coordinates:
            counts = " or ".join(map(str, transform.coordinates))
            facts.append(f"Needs joints of {counts} coordinates.")
        lines += [f"*{' '.join(facts)}*", ""]
    return "\n".join(lines)


# --------------------------------------------------------------------- layouts and readers


def draw_layouts() -> Path:
    """Draw every layout by `kinegraph draw graph` and return the folder of the pictures."""
    folder = BUILD / "layouts"
    folder.mkdir(parents=True, exist_ok=True)
    for name in LAYOUTS:
        picture = folder / f"{name}.png"
        run_command("draw", "graph", name, "--out", str(picture))
        shrink_picture(picture, picture)
    return folder


def shrink_picture(source: Path, target: Path) -> None:
    """Write a picture at most `MAX_WIDTH` wide and with 256 colors."""
    with Image.open(source) as opened:
        image = opened.convert("RGB")
    image.thumbnail((MAX_WIDTH, 100 * MAX_WIDTH))
    image.quantize(256, dither=Image.Dither.NONE).save(target, format="png", optimize=True)


def run_command(*words: str) -> None:
    """Run a command of kinegraph in this process.

    Raises:
        RuntimeError: it failed.
    """
    try:
        main(words)
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"kinegraph {' '.join(words)}: exit code {end.code}") from end


def layouts_page() -> str:
    """Return the page of the layouts: picture, and joints in order."""
    lines = [
        "# Layouts",
        "",
        "The joints of every built-in layout in their order, and its graph, drawn by "
        "`kinegraph draw graph NAME`. `kinegraph list layouts NAME` prints the same table. "
        "[Add a layout](../add-a-layout.md) describes how to write one, "
        "[layout conversion](../convert-skeletons.md) how joints are converted.",
        "",
        "| layout | joints | center |",
        "|---|---|---|",
    ]
    for name, layout in LAYOUTS.items():
        center = layout.joints[layout.center]
        lines.append(f"| [`{name}`](#{name}) | {layout.num_joints} | {center} |")
    for name, layout in LAYOUTS.items():
        aliases = [alias for alias, of in LAYOUT_ALIASES.items() if of == name]
        lines += ["", f"## {name}", "", f"{layout.source[0].upper()}{layout.source[1:]}."]
        lines += (
            [f"Also known as {', '.join(f'`{alias}`' for alias in aliases)}."] if aliases else []
        )
        lines += [
            "",
            f"![Skeleton, hop distances and partitions of {name}](layouts/{name}.png)",
            "",
        ]
        lines += [f'??? note "{layout.num_joints} joints in order"', ""]
        lines += ["    | number | joint | parent | mirror image |", "    |---|---|---|---|"]
        for joint, parent, mirror in zip(
            range(layout.num_joints), layout.parents, layout.mirror, strict=True
        ):
            above = "" if joint == layout.center else layout.joints[parent]
            other = "" if joint == mirror else layout.joints[mirror]
            lines.append(f"    | {joint} | `{layout.joints[joint]}` | {above} | {other} |")
    return "\n".join(lines) + "\n"


def readers_page() -> str:
    """Return the page of the readers: what each reads, and its options."""
    lines = [
        "# Readers and file formats",
        "",
        "`kinegraph convert READER SOURCE STORE.arrow` reads raw files with one of these readers; "
        "`predict`, `stream` and other commands guess the reader from a file. What the coordinates "
        "of each mean is on the page [coordinates](../coordinates.md#readers).",
    ]
    for name, reader in READERS.items():
        lines += ["", f"## {name}", "", f"{reader.summary[0].upper()}{reader.summary[1:]}.", ""]
        if reader.protocols:
            lines += [f"Protocols: {', '.join(f'`{p}`' for p in reader.protocols)}.", ""]
        for option, text in reader.options.items():
            lines += [f"`--{option.replace('_', '-')}`", f":   {_plain(text)}", ""]
    return "\n".join(lines) + "\n"


# --------------------------------------------------------------------- server


def http_page() -> str:
    """Return the page of the HTTP interface, from the OpenAPI description of the server."""
    api = _openapi()
    schemas = api["components"]["schemas"]
    lines = [
        "# HTTP interface",
        "",
        "The requests that [`kinegraph serve`](../serving.md) answers. The same as "
        "[OpenAPI](openapi.json), which a running server returns at `/openapi.json`.",
    ]
    for path, methods in api["paths"].items():
        for method, request in methods.items():
            lines += ["", f"## {method.upper()} {path}", "", request["description"], ""]
            for parameter in request.get("parameters", ()):
                kind = _describe_type(parameter["schema"], api)
                lines += [
                    f"`{parameter['name']}`",
                    f":   {parameter.get('description', '')} ({kind})",
                    "",
                ]
            for media, content in request.get("requestBody", {}).get("content", {}).items():
                lines += [f"Body: `{media}`", ""]
                if "example" in content:
                    lines += ["```json", _dump(content["example"]), "```", ""]
            lines += ["| status | answer | schema |", "|---|---|---|"]
            for status, answer in request["responses"].items():
                found = [
                    _link_schema(c.get("schema", {}), api)
                    for c in answer.get("content", {}).values()
                ]
                lines.append(
                    f"| {status} | {answer['description']} | {', '.join(filter(None, found))} |"
                )
    lines += ["", "## Schemas"]
    for name, schema in schemas.items():
        lines += _describe_schema(name, schema, api, level=3)
    return "\n".join(lines) + "\n"


def _openapi() -> dict[str, Any]:
    """Return the OpenAPI description; it does not depend on the model that is served."""
    from types import SimpleNamespace
    from typing import cast

    from kinegraph.server.app import create_app
    from kinegraph.server.service import Service

    return create_app(cast(Service, SimpleNamespace(recognizer=None))).openapi()


def openapi_file() -> str:
    """Return the OpenAPI description as JSON."""
    return json.dumps(_openapi(), indent=1)


def websockets_page() -> str:
    """Return the page of the messages of the websockets, from their JSON schemas."""
    from kinegraph.server.message_schemas import MESSAGES, message_schemas

    lines = [
        "# Websocket messages",
        "",
        "The fields of the text messages of the two websockets. "
        "[Serving](../serving.md) explains when they are sent, and the binary messages. JSON "
        "schemas: [streams](../stream.schema.json), [videos](../video.schema.json).",
    ]
    for websocket in MESSAGES:
        lines += ["", f"## WS /v1/{websocket}"]
        for sender, schema in message_schemas(websocket).items():
            lines += ["", f"### {websocket}: messages of the {sender}"]
            for name, part in schema.get("$defs", {}).items():
                lines += _describe_schema(name, part, schema, level=4)
    return "\n".join(lines) + "\n"


def _describe_schema(name: str, part: Any, schema: Any, level: int) -> Iterator[str]:
    yield from ("", f"{'#' * level} {name}", "", _plain(part.get("description", "")), "")
    required = part.get("required", ())
    for key, field in part.get("properties", {}).items():
        optional = "" if key in required else ", optional"
        text = f"{_plain(field.get('description', ''))} ({_describe_type(field, schema)}{optional})"
        yield from (f"`{key}`", f":   {text.strip()}", "")
    for example in part.get("examples", ()):
        yield from ("```json", _dump(example), "```", "")


def _link_schema(part: Mapping[str, Any], api: Mapping[str, Any]) -> str:
    reference = part.get("$ref", "").rpartition("/")[2]
    return f"[{reference}](#{reference.lower()})" if reference else _describe_type(part, api)


def _dump(value: Any) -> str:
    """Return a value as JSON, one line for each list of numbers."""
    text = json.dumps(value, indent=1)
    return re.sub(r"\[\s+([-\d.,\seE+]|null|true|false)+\]", lambda m: " ".join(m[0].split()), text)


def _read_asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


PAGES: dict[str, Callable[[], str]] = {
    f"{FOLDER}cli.md": cli_page,
    f"{FOLDER}api/index.md": api_index,
    **{f"{FOLDER}api/{room}.md": partial(api_page, room) for room in API_ROOMS},
    f"{FOLDER}recipe-schema.md": recipe_page,
    f"{FOLDER}transforms.md": transforms_page,
    f"{FOLDER}layouts.md": layouts_page,
    f"{FOLDER}readers.md": readers_page,
    f"{FOLDER}http.md": http_page,
    f"{FOLDER}websockets.md": websockets_page,
}
#: Further files of the site: data, style, icon.
FILES: dict[str, Callable[[], str]] = {
    f"{FOLDER}recipe.schema.json": recipe_schema,
    f"{FOLDER}openapi.json": openapi_file,
    **{
        f"{FOLDER}{name}": partial(_read_asset, name)
        for name in ("site.css", "favicon.svg", "worker.js")
    },
}
