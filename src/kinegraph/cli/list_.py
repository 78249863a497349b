"""`kinegraph list`: what there is to choose from."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from kinegraph.cli.console import print_table


class Kind(enum.StrEnum):
    """What can be listed."""

    readers = "readers"
    layouts = "layouts"
    models = "models"
    objectives = "objectives"
    protocols = "protocols"
    recipes = "recipes"
    classes = "classes"
    transforms = "transforms"
    conversions = "conversions"
    pretrained = "pretrained"


def listing(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    name: Annotated[str, typer.Argument(help="For classes: of which set.")] = "",
) -> None:
    """List what there is to choose from, or the classes of a set."""
    if kind is Kind.classes:
        _classes(name)
    else:
        {
            Kind.readers: _readers,
            Kind.layouts: _layouts,
            Kind.models: _models,
            Kind.objectives: _objectives,
            Kind.protocols: _protocols,
            Kind.recipes: _recipes,
            Kind.transforms: _transforms,
            Kind.conversions: _conversions,
            Kind.pretrained: _pretrained,
        }[kind]()


def _readers() -> None:
    from kinegraph.readers import READERS

    rows = []
    for reader in READERS.values():
        rows.append((reader.name, reader.summary))
        rows += [("", f"--{key}  {text}") for key, text in reader.options.items()]
    print_table("Readers (kinegraph convert READER SOURCE STORE)", ("reader", "reads"), rows)


def _layouts() -> None:
    from kinegraph.skeleton.layouts import LAYOUTS

    rows = [
        (name, layout.num_joints, layout.joints[layout.center], layout.source)
        for name, layout in LAYOUTS.items()
    ]
    print_table("Layouts", ("layout", "joints", "center", "source"), rows)


def _models() -> None:
    from kinegraph.models import list_models, model_options

    rows = []
    for name in list_models():
        rows += [(name, f"{key}={default!r}") for key, default in model_options(name).items()]
    print_table("Models and their options", ("model", "option=default"), rows)


def _objectives() -> None:
    from kinegraph.training.objectives import OBJECTIVES, objective_options

    rows = []
    for name, objective in OBJECTIVES.items():
        rows.append((name, (objective.__doc__ or "").partition("\n")[0]))
        rows += [("", f"{key}={default!r}") for key, default in objective_options(name).items()]
    print_table("Objectives and their options", ("objective", "what is learnt"), rows)


def _protocols() -> None:
    from kinegraph.clips.splits import PROTOCOLS

    rows = [(protocol.name, protocol.summary) for protocol in PROTOCOLS.values()]
    rows.append(("NAME-clean", "any of them without the test clips that equal a training clip"))
    print_table("Protocols", ("protocol", "split"), rows)


def _recipes() -> None:
    from kinegraph.training.recipe import list_recipes, load_recipe

    rows = [(name, load_recipe(name).about) for name in list_recipes()]
    print_table("Recipes (kinegraph train RECIPE)", ("recipe", "about"), rows)


def _transforms() -> None:
    import inspect

    from kinegraph.transforms import TRANSFORMS

    rows = []
    for name, function in TRANSFORMS.items():
        options = [
            str(p)
            for p in inspect.signature(function).parameters.values()
            if p.kind is p.KEYWORD_ONLY
        ]
        rows.append((name, (function.__doc__ or "").partition("\n")[0]))
        rows += [("", option) for option in options]
    print_table("Transforms", ("transform", "what it does, its options"), rows)


def _conversions() -> None:
    from kinegraph.skeleton.joint_mapping import conversion_table

    columns, rows = conversion_table()
    print_table("Joints that survive (from the row to the column)", ("from", *columns), rows)


def _pretrained() -> None:
    from kinegraph.training.model_zoo import PRETRAINED_FOLDER, list_pretrained, model_card

    rows = []
    for name in list_pretrained():
        _, _, about = model_card(name).read_text(encoding="utf-8").split("\n", 2)
        rows.append((name, about.split("\n\n")[0].replace("\n", " ")))
    print_table(f"Pretrained (model cards in {PRETRAINED_FOLDER})", ("name", "about"), rows)


def _classes(name: str) -> None:
    from kinegraph.readers.class_names import class_names, list_class_sets

    if not name:
        print("\n".join(list_class_sets()))
        return
    print("\n".join(f"{i:3d}  {title}" for i, title in enumerate(class_names(name))))
