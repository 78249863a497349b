# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Own data from CSV files
#
# Recordings in tables become a store, a store becomes a model. This notebook makes its tables: a person of seven joints
# who waves, squats or marches. Replace the first cell by your files; [add a dataset](../add-a-dataset.md) describes what
# the tables may look like.

# %%
from pathlib import Path

import numpy as np

JOINTS = ["head", "neck", "left_hand", "right_hand", "hip", "left_foot", "right_foot"]
STANDING = np.array(
    [[0, 60], [0, 100], [-40, 140], [40, 140], [0, 200], [-20, 320], [20, 320]], float
)


def perform(action: str, rng: np.random.Generator) -> np.ndarray:
    """Return joints (60 frames, 7 joints, x and y in pixels) of one performance."""
    size, speed, delay = rng.uniform(0.8, 1.2), rng.uniform(0.08, 0.14), rng.uniform(0, 6)
    beat = np.sin(2 * np.pi * speed * np.arange(60) + delay)
    joints = np.repeat(STANDING[None], 60, axis=0)
    if action == "wave":
        joints[:, 3] += np.stack([30 * beat, np.full(60, -110)], axis=1)
    elif action == "squat":
        joints[:, :5, 1] += 45 * (1 + beat[:, None])
    else:  # march: one foot, then the other
        joints[:, 5, 1] -= 50 * np.maximum(beat, 0)
        joints[:, 6, 1] -= 50 * np.maximum(-beat, 0)
    return size * joints + rng.normal(0, 2, joints.shape) + rng.uniform(100, 300, 2)


folder = Path("my_data")
folder.mkdir()
rng = np.random.default_rng(0)
header = ",".join(f"{joint}_{axis}" for joint in JOINTS for axis in "xy")
lines = ["file,label,subject"]
for subject in range(1, 13):
    for action in ("wave", "squat", "march"):
        name = f"{action}_{subject:02d}.csv"
        table = perform(action, rng).reshape(60, -1)
        np.savetxt(folder / name, table, fmt="%.1f", delimiter=",", header=header, comments="")
        lines.append(f"{name},{action},{subject}")
(folder / "clips.csv").write_text("\n".join(lines) + "\n")
print("\n".join(lines[:4]))

# %% [markdown]
# A layout names the joints and the bones between them.

# %%
layout_file = Path("my_layout.yaml")
layout_file.write_text("""
name: mine
joints: [head, neck, left_hand, right_hand, hip, left_foot, right_foot]
bones: [[head, neck], [left_hand, neck], [right_hand, neck], [hip, neck], [left_foot, hip], [right_foot, hip]]
center: neck
mirror_pairs: [[left_hand, right_hand], [left_foot, right_foot]]
""")
print(layout_file)

# %% [markdown]
# The conversion prints what it guesses; here all is stated. The rows have no frame rate, so that is stated, too.

# %%
import kinegraph as kg
from kinegraph.readers import get_reader

stated = {"layout": "my_layout.yaml", "space": "image", "unit": "pixel", "fps": 30}
kg.convert(get_reader("arrays"), "my_data", "my.arrow", options=stated)
store = kg.ClipStore("my.arrow")
print(len(store), store.classes, store.layout.name)

# %%
from kinegraph.reports.draw_clip import draw_clip

draw_clip(store[store.find("wave_01")])

# %% [markdown]
# The recipe `own_data` chooses its settings by the store. Half of the subjects are test persons. By default it
# trains twice, to choose the number of epochs on held-out clips first; here it trains once,
# and fewer steps than usual, which is enough for three clear actions.

# %%
changes = ["store=my.arrow", "protocol=odd-even-subjects", "train.min_steps=160"]
recipe = kg.load_recipe("own_data", [*changes, "validation.fraction=0", "validation.retrain=false"])
run = kg.train(recipe, "run")
scores, result = kg.evaluate_run("run")
print(f"{result.clips} clips of other persons, {result.top1:.0%} named right")

# %% [markdown]
# A new table gets a name from the folder of the run alone.

# %%
table = perform("squat", np.random.default_rng(99)).reshape(60, -1)
np.savetxt("new.csv", table, fmt="%.1f", delimiter=",", header=header, comments="")
clip = kg.read_clip("new.csv", "arrays", **stated)
print(kg.Recognizer.load("run")(clip).name)
