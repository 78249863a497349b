# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Poses of OpenPose and Ultralytics
#
# Pose estimators write files of joints in pixels. The bundled model names sports and exercise actions in them. This
# notebook writes such files from a synthetic performer; with yours, begin at "Read".

# %%
import json
from pathlib import Path

import numpy as np

import kinegraph as kg
from kinegraph.readers import get_reader

kg.convert(get_reader("synthetic"), "raw", "synthetic.arrow", options={"performers": 3})
store = kg.ClipStore("synthetic.arrow")
clip = next(c for c in store if store.classes[c.label] == "squat" and c.num_persons == 1)


def to_pixels(layout: str) -> np.ndarray:
    """Return joints (frames, joints, x and y) of a camera in front of the performer, 640 x 480."""
    joints = kg.convert_layout(clip, to=layout).joints[0]
    return np.stack([320 + 200 * joints[..., 0], 240 - 200 * joints[..., 1]], axis=-1)


pixels = np.nan_to_num(to_pixels("body25"))
folder = Path("openpose_output")
folder.mkdir()
for number, pose in enumerate(pixels):
    seen = (pose != 0).any(axis=1, keepdims=True)
    values = np.concatenate([pose, 0.9 * seen], axis=1).ravel().round(2).tolist()
    content = {"version": 1.3, "people": [{"pose_keypoints_2d": values}]}
    (folder / f"video_{number:012d}_keypoints.json").write_text(json.dumps(content))
print(len(list(folder.iterdir())), "files, one for each frame")

# %% [markdown]
# ## Read
#
# The reader is guessed from the files. The note states what was guessed.

# %%
read = kg.read_clip(folder, fps=30)
print(read.layout.name, read.joints.shape, read.space.describe())
print(*read.notes, sep="\n")

# %%
from kinegraph.reports.draw_clip import draw_clip

draw_clip(read)

# %% [markdown]
# ## Recognize
#
# Skeletons of other layouts are converted to the 13 joints of the model. "unknown" is an answer, too: a synthetic
# performer does not move as people in videos do.

# %%
recognizer = kg.load_pretrained("penn-action")
prediction = recognizer(read)
print(prediction.accepted.name if prediction.accepted else "unknown")
for candidate in prediction.candidates[:3]:
    print(f"{candidate.name}: {candidate.probability:.0%}")

# %% [markdown]
# ## Ultralytics
#
# The label files of `model.predict(..., save_txt=True)` have a line for each person: class, box, and 17 joints as shares
# of the image.

# %%
labels = Path("labels")
labels.mkdir()
for number, pose in enumerate(np.nan_to_num(to_pixels("coco17")) / [640, 480], start=1):
    seen = np.where((pose != 0).any(axis=1, keepdims=True), 0.9, 0.0)
    values = np.concatenate([pose, seen], axis=1).ravel()
    line = " ".join(["0", "0.5", "0.5", "0.4", "0.8", *(f"{value:.5f}" for value in values)])
    (labels / f"video_{number}.txt").write_text(line + "\n")

shares = kg.read_clip(labels, fps=30)
print(shares.layout.name, shares.joints.shape, shares.space.describe())
