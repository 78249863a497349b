# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # First model
#
# From raw recordings to named actions, in about a minute. The recordings are synthetic: performers with skeletons of 25
# joints, written in the file format of NTU RGB+D. With recordings of your own, only the first step differs.

# %%
import kinegraph as kg
from kinegraph.readers import get_reader

# The reader "synthetic" first writes its files; other readers read the folder that is there.
kg.convert(get_reader("synthetic"), "raw", "synthetic.arrow", options={"performers": 6})
store = kg.ClipStore("synthetic.arrow")
print(len(store), "clips of", len(store.classes), "actions:", ", ".join(store.classes))

# %% [markdown]
# A clip has joints of shape (persons, frames, joints, coordinates).

# %%
from kinegraph.reports.draw_clip import draw_clip

clip = store[0]
print(clip.joints.shape, store.classes[clip.label])
draw_clip(clip)

# %% [markdown]
# A recipe has all settings of a training. `demo` trains a small ST-GCN. The protocol `xsub` tests on performers who are
# not in the training set.

# %%
recipe = kg.load_recipe("demo", ["store=synthetic.arrow", "train.epochs=10"])
run = kg.train(recipe, "run")

# %%
from pathlib import Path

from kinegraph.reports.draw_run import draw_confusion_matrix

scores, result = kg.evaluate_run("run")
print(f"{result.clips} test clips, {result.top1:.1%} named right")
draw_confusion_matrix(result.confusion, store.classes)

# %% [markdown]
# The folder of the run is all that a prediction needs.

# %%
recognizer = kg.Recognizer.load("run")
prediction = recognizer(kg.read_clip(sorted(Path("raw").glob("*.skeleton"))[5]))
for candidate in prediction.candidates[:3]:
    print(f"{candidate.name}: {candidate.probability:.0%}")
