"""`kinegraph list`: the available readers, layouts, models, recipes and so on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from kinegraph.cli.console import echo, print_table
from kinegraph.errors import unknown_name


def _print_readers(name: str = "") -> None:
    from kinegraph.readers import READERS, get_reader

    if name:
        reader = get_reader(name)
        facts = [("coordinates", reader.describe_space())]
        facts += [("protocols", ", ".join(reader.protocols))] if reader.protocols else []
        options = [(f"--{key.replace('_', '-')}", text) for key, text in reader.options.items()]
        print_table(f"{name}: {reader.summary}", ("", ""), [*facts, *options])
        return
    rows = []
    for reader in READERS.values():
        rows.append((reader.name, reader.summary))
        rows += [("", f"--{key}  {text}") for key, text in reader.options.items()]
    print_table("Readers (kinegraph convert READER SOURCE STORE)", ("reader", "reads"), rows)


def _print_layouts(name: str = "") -> None:
    from kinegraph.skeleton.layouts import LAYOUT_ALIASES, LAYOUTS, get_layout

    if name:
        layout = get_layout(name)
        names = layout.joints
        parents = ["–" if j == layout.center else names[p] for j, p in enumerate(layout.parents)]
        mirrors = ["–" if j == m else names[m] for j, m in enumerate(layout.mirror)]
        called = [
            layout.name,
            *(alias for alias, of in LAYOUT_ALIASES.items() if of == layout.name),
        ]
        title = f"{', '.join(called)}: {layout.source}"
        joints = list(zip(range(layout.num_joints), names, parents, mirrors, strict=True))
        print_table(title, ("number", "joint", "parent", "mirror image"), joints)
        return
    rows = [
        (name, layout.num_joints, layout.joints[layout.center], layout.source)
        for name, layout in LAYOUTS.items()
    ]
    print_table(
        "Layouts (kinegraph list layouts NAME prints the joints in order)",
        ("layout", "joints", "center", "source"),
        rows,
    )


def _print_models() -> None:
    from kinegraph.models import list_models, model_options

    rows = []
    for name in list_models():
        rows += [(name, f"{key}={default!r}") for key, default in model_options(name).items()]
    print_table("Models and their options", ("model", "option=default"), rows)


def _print_objectives() -> None:
    from kinegraph.training.objectives import OBJECTIVES, objective_options

    rows = []
    for name, objective in OBJECTIVES.items():
        rows.append((name, (objective.__doc__ or "").partition("\n")[0]))
        rows += [("", f"{key}={default!r}") for key, default in objective_options(name).items()]
    print_table("Objectives and their options", ("objective", "what is learned"), rows)


def _print_protocols() -> None:
    from kinegraph.clips.splits import PROTOCOLS

    rows = [(protocol.name, protocol.summary) for protocol in PROTOCOLS.values()]
    rows.append(("NAME-clean", "any of them without the test clips that equal a training clip"))
    print_table("Protocols", ("protocol", "split"), rows)


def _print_recipes(part: str = "") -> None:
    from kinegraph.training.recipe import RECIPE_FOLDER, list_recipes, load_recipe

    names = [name for name in list_recipes() if part in name]
    if not names:
        raise unknown_name("recipe", part, list_recipes())
    rows = [(name, load_recipe(name).about) for name in names]
    print_table("Recipes (kinegraph train RECIPE)", ("recipe", "about"), rows)
    echo(f"They are YAML files in {RECIPE_FOLDER}: copy one to write your own.")


def _print_transforms() -> None:
    import inspect

    from kinegraph.transforms import TRANSFORMS
    from kinegraph.transforms.validation import describe_annotation

    rows = []
    for name, transform in TRANSFORMS.items():
        rows.append((name, (transform.__doc__ or "").partition("\n")[0].replace("``", "")))
        for key, annotation in transform.options.items():
            default = inspect.signature(transform).parameters[key].default
            rows.append(("", f"{key}={default!r}: {describe_annotation(annotation)}"))
    print_table("Transforms", ("transform", "what it does, option=default"), rows)


def _print_conversions() -> None:
    from kinegraph.skeleton.joint_mapping import conversion_table

    columns, rows = conversion_table()
    print_table("Joints that are kept (from the row to the column)", ("from", *columns), rows)


def _print_pretrained() -> None:
    from kinegraph.training.model_zoo import PRETRAINED_FOLDER, list_pretrained, model_card

    rows = []
    for name in list_pretrained():
        _, _, about = model_card(name).read_text(encoding="utf-8").split("\n", 2)
        rows.append((name, about.split("\n\n")[0].replace("\n", " ")))
    print_table(f"Pretrained (model cards in {PRETRAINED_FOLDER})", ("name", "about"), rows)


def _print_weights() -> None:
    from kinegraph.inference.import_weights import WEIGHT_FORMATS

    rows = [(family, form.head) for family, form in WEIGHT_FORMATS.items()]
    title = "Families of published weights (kinegraph import FAMILY FILE OUT --protocol NAME)"
    print_table(title, ("family", "classifier's tensor in the file"), rows)


def _print_classes(name: str = "") -> None:
    from kinegraph.readers.class_names import class_names, list_class_sets

    if not name:
        echo("\n".join(list_class_sets()))
        return
    echo("\n".join(f"{i:3d}  {title}" for i, title in enumerate(class_names(name))))


PRINTERS: dict[str, Callable[..., None]] = {
    "readers": _print_readers,
    "layouts": _print_layouts,
    "models": _print_models,
    "objectives": _print_objectives,
    "protocols": _print_protocols,
    "recipes": _print_recipes,
    "classes": _print_classes,
    "transforms": _print_transforms,
    "conversions": _print_conversions,
    "pretrained": _print_pretrained,
    "weights": _print_weights,
}


def list_kind(
    kind: Annotated[str, typer.Argument(help=f"What to list: {', '.join(PRINTERS)}.")],
    name: Annotated[
        str,
        typer.Argument(
            help="A reader, a layout, a part of the recipes' names, or the dataset of classes."
        ),
    ] = "",
) -> None:
    """List readers, layouts, models and so on; one reader or layout in detail, or classes."""
    if kind not in PRINTERS:
        raise unknown_name("kind", kind, PRINTERS)
    if not name:
        PRINTERS[kind]()
    elif kind in ("readers", "layouts", "recipes", "classes"):
        PRINTERS[kind](name)
    else:
        raise typer.BadParameter(f"{kind} are listed all at once, without a name, got {name!r}")
