# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Segmentation of a long recording
#
# Which action when? A head on top of a network names the action of every frame. The recordings are synthetic: each has
# eleven actions with rests between them, and their intervals are known.

# %%
import kinegraph as kg
from kinegraph.readers import get_reader

options = {"what": "recordings", "performers": 6}
kg.convert(get_reader("synthetic"), "raw", "recordings.arrow", options=options)
store = kg.ClipStore("recordings.arrow")
print(len(store), "recordings;", store[0].num_frames, "frames in the first")

# %%
changes = ["store=recordings.arrow", "train.epochs=70"]
run = kg.train(kg.load_recipe("synthetic_segmentation", changes), "run")

# %% [markdown]
# Recordings of performers who are not in the training set: the true actions above, the found ones below.

# %%
from pathlib import Path

from kinegraph.inference.evaluate_segmentation import evaluate_segmentation, segment_split
from kinegraph.reports.draw_segmentation import draw_segmentations

found = segment_split(Path("run"))
print(f"frame accuracy {evaluate_segmentation(found).frame_accuracy:.0%}")
draw_segmentations(found[:4])

# %%
from kinegraph.inference.segment import Segmenter

recording = kg.read_clip(sorted(Path("raw").glob("*.skeleton"))[0])
for action in Segmenter.load("run")(recording).intervals(10)[:6]:
    print(f"{action.start:5.1f} s - {action.end:5.1f} s  {action.name} {action.probability:.0%}")

# %% [markdown]
# [Segmentation](../segmentation.md) describes labels of own recordings, other heads, and answers while recording.
