# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Streaming
#
# A session takes one frame after the other, as a camera gives them, and predicts while the action is under way. Here the
# frames come from a recording; a camera with a pose estimator gives the same arrays.

# %%
import kinegraph as kg
from kinegraph.readers import get_reader

kg.convert(get_reader("synthetic"), "raw", "synthetic.arrow", options={"performers": 6})
changes = ["store=synthetic.arrow", "stream=joint", "train.epochs=10"]
run = kg.train(kg.load_recipe("demo", changes), "run")
recognizer = kg.Recognizer.load("run")

# %% [markdown]
# The "camera": recordings of a person who is not in the training set, frame by frame.

# %%
import time

import numpy as np

store = kg.ClipStore("synthetic.arrow")
unseen = [clip for clip in store if clip.meta["subject"] == 3 and clip.meta["camera"] == 1]
seconds = []
for name in ("kick", "sit down", "bow"):
    clip = next(clip for clip in unseen if store.classes[clip.label] == name)
    session = kg.open_session(recognizer, every=5)
    print(f"{name}, {clip.num_frames} frames:")
    for joints in clip.joints.swapaxes(0, 1):  # (persons, joints, coordinates)
        start = time.perf_counter()
        prediction = session.push(joints)
        seconds.append(time.perf_counter() - start)
        if prediction and session.frames % 10 == 0:
            print(f"  frame {session.frames}: {prediction.name} {prediction.probability:.0%}")
    print("  in the end:", session.flush().name)
print(f"median time of a frame: {1000 * np.median(seconds):.1f} ms; a camera gives one every 33 ms")

# %% [markdown]
# The first predictions are wrong: most of the action has not happened yet, and the network was trained on whole clips.
# [Streaming](../streaming.md) describes the window that a prediction covers, and many streams at once.
