"""Recipes: bundled ones are valid, all errors are reported at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kinegraph.errors import RecipeError
from kinegraph.models import create_model
from kinegraph.training.recipe import Recipe, list_recipes, load_recipe, parse_recipe


@pytest.mark.parametrize("name", list_recipes())
def test_shipped_recipes_are_sound_and_say_where_they_come_from(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.about.endswith(".")
    model = create_model(recipe.model.name, layout="ntu25", num_classes=2, **recipe.model.options)
    for stage in (recipe, *map(recipe.stage, range(len(recipe.stages)))):
        assert hasattr(model, stage.objective.create().required_method)


def test_a_stage_is_the_recipe_but_for_what_it_names():
    recipe = load_recipe("asgcn_ntu60_xsub")
    links = recipe.stage(0)
    assert (links.name, links.objective.name) == ("asgcn_ntu60_xsub-links", "links")
    assert (links.train.epochs, links.train.optimizer, links.train.lr) == (10, "adamw", 0.0005)
    assert (links.train.schedule, links.train.weight_decay) == ("constant", 0)
    assert links.train.batch_size == recipe.train.batch_size == 32
    assert (links.transforms, links.model) == (recipe.transforms, recipe.model)
    assert not links.stages
    assert (recipe.train.epochs, recipe.objective.options["future_weight"]) == (90, 0.01)


def test_errors_in_stages_and_objectives_are_reported(tiny_recipe):
    stage = {"name": "first", "objective": {"name": "links"}}
    with pytest.raises(RecipeError, match="'links' needs a model with the method `link_loss`"):
        parse_recipe({**tiny_recipe, "stages": [stage]}, "my.yaml")
    tiny_recipe["model"] = {"name": "asgcn"}
    wrong = {**stage, "train": {"epochs": 0, "epoch": 1}}
    with pytest.raises(RecipeError, match=r"2 errors: stage 'first': .*; stage 'first': unknown"):
        parse_recipe({**tiny_recipe, "stages": [wrong]}, "my.yaml")
    tiny_recipe["objective"] = {"name": "recognition", "future_wieght": 0.1}
    with pytest.raises(RecipeError, match=r"no option 'future_wieght' .did you mean"):
        parse_recipe(tiny_recipe, "my.yaml")


def test_five_errors_are_reported_at_once(tiny_recipe):
    tiny_recipe |= {"protocl": "x", "seed": -1, "stream": "bones"}
    tiny_recipe["model"]["dropuot"] = 0.5
    tiny_recipe["train"]["epochs"] = "many"
    with pytest.raises(RecipeError) as caught:
        parse_recipe(tiny_recipe, "my.yaml")
    message = str(caught.value)
    assert message.startswith("my.yaml: 5 errors: ")
    for part in (
        "unknown key 'protocl' (did you mean 'protocol'?)",
        "'seed': input should be greater than or equal to 0, got -1",
        "'train.epochs': input should be a valid integer",
        "has no option 'dropuot' (did you mean 'dropout'?)",
        "unknown stream 'bones' (did you mean 'bone'?)",
    ):
        assert part in message


@pytest.mark.parametrize("value", [3, "yes", None, 1.0])
def test_a_switch_of_a_model_is_true_or_false(tiny_recipe, value):
    tiny_recipe["model"]["adaptive"] = value
    with pytest.raises(RecipeError, match="expected adaptive to be true or false"):
        parse_recipe(tiny_recipe, "my.yaml")


@pytest.mark.parametrize("part", ["model", "objective", "train"])
def test_keys_that_are_not_text_are_errors(tiny_recipe, part):
    tiny_recipe[part] = {1: 2}
    with pytest.raises(RecipeError, match="keys should be strings"):
        parse_recipe(tiny_recipe, "my.yaml")


def test_missing_keys_and_unknown_names(tiny_recipe):
    del tiny_recipe["store"]
    tiny_recipe["protocol"] = "xsubb"
    tiny_recipe["model"]["name"] = "stgnc"
    tiny_recipe["transforms"] = ["center", {"resize": {"frames": 0}}]
    with pytest.raises(RecipeError) as caught:
        parse_recipe(tiny_recipe, "my.yaml")
    for part in ("'store' is missing", "did you mean 'xsub'", "did you mean 'stgcn'", "step 2"):
        assert part in str(caught.value)


def test_early_stopping_needs_something_to_watch(tiny_recipe):
    tiny_recipe["train"]["early_stop"] = 2
    tiny_recipe["validation"]["fraction"] = 0
    with pytest.raises(RecipeError, match="needs held-out clips"):
        parse_recipe(tiny_recipe, "my.yaml")


def test_a_test_split_that_selects_the_epoch_holds_out_no_training_clips(tiny_recipe):
    tiny_recipe["validation"]["split"] = "test"
    with pytest.raises(RecipeError, match=r"set validation\.fraction to 0"):
        parse_recipe(tiny_recipe, "my.yaml")
    tiny_recipe["validation"]["fraction"] = 0
    tiny_recipe["train"]["early_stop"] = 2
    assert parse_recipe(tiny_recipe, "my.yaml").validation.is_used


def test_class_weights_need_classes(tiny_recipe):
    tiny_recipe["train"]["class_weights"] = "balanced"
    tiny_recipe["model"] = {"name": "stgcn_autoencoder", "channels": [8], "strides": [1]}
    tiny_recipe["objective"] = {"name": "reconstruct"}
    with pytest.raises(RecipeError, match="'reconstruct' names none: set it to null"):
        parse_recipe(tiny_recipe, "my.yaml")


def test_overrides_reach_into_parts(tiny_recipe, tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe))
    recipe = load_recipe(path, ["train.epochs=2", "stream=bone", "model.channels=[4, 4]"])
    assert recipe.train.epochs == 2
    assert recipe.stream == "bone"
    assert recipe.model.options["channels"] == [4, 4]


def test_a_written_recipe_reads_back_equal(tiny_recipe):
    recipe = parse_recipe(tiny_recipe, "tiny")
    assert Recipe.model_validate(yaml.safe_load(recipe.to_yaml())) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not valid YAML"),
        ("just words", "expected keys and values, got str"),
    ],
)
def test_files_that_are_no_recipe(tmp_path, text, message):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_names_and_overrides_that_do_not_exist(tmp_path):
    with pytest.raises(RecipeError, match=r"no recipe 'utd_mhda' .did you mean 'utd_mhad'"):
        load_recipe("utd_mhda")
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        load_recipe(tmp_path / "absent.yaml")
    with pytest.raises(RecipeError, match="expected key=value, got 'epochs'"):
        load_recipe("utd_mhad", ["epochs"])
    with pytest.raises(RecipeError, match="'stream' is a value"):
        load_recipe("utd_mhad", ["stream.x=1"])


def test_the_recipe_for_ones_own_data_is_sound():
    page = Path(__file__).parents[2] / "docs" / "add-a-dataset.md"
    (text,) = re.findall(r"```yaml\n(name: my_recipe.*?)```", page.read_text("utf-8"), re.DOTALL)
    assert parse_recipe(yaml.safe_load(text), "my_recipe.yaml").store == "my.arrow"


def test_a_layout_file_becomes_part_of_the_recipe(tiny_recipe, tmp_path, monkeypatch):
    fields = {"name": "trunk2", "joints": ["neck", "belly"], "bones": [[0, 1]], "centre": "neck"}
    (tmp_path / "trunk.yaml").write_text(yaml.safe_dump(fields))
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump({**tiny_recipe, "transforms": [{"layout": {"to": "trunk.yaml"}}]})
    )
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert recipe.transforms[0]["layout"]["to"]["joints"] == ["neck", "belly"]
    monkeypatch.chdir(tmp_path)
    assert load_recipe("recipe.yaml") == recipe
    (tmp_path / "trunk.yaml").unlink()
    with pytest.raises(RecipeError, match=r"trunk\.yaml: cannot read the layout file"):
        load_recipe("recipe.yaml")
