# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Teach an action
#
# A few examples of each action are enough for a model of them: the network stays as it is, only its last layer is
# fitted. That takes seconds. The examples here are synthetic; [teach](../teach.md) describes folders of videos.

# %%
import kinegraph as kg
from kinegraph.readers import get_reader

kg.convert(get_reader("synthetic"), "raw", "synthetic.arrow", options={"performers": 8})
store = kg.ClipStore("synthetic.arrow")
print(", ".join(store.classes))

# %% [markdown]
# Five performers show three actions to the camera in front; three other performers are the test.

# %%
taught, shown, tested = ("wave", "bow", "kick"), {1, 2, 3, 4, 5}, {6, 7, 8}


def clips_of(name: str, subjects: set[int]) -> list[kg.Clip]:
    """Return the clips of an action, by some of the performers, seen by the first camera."""
    return [
        clip
        for clip in store
        if store.classes[clip.label] == name
        and clip.meta["subject"] in subjects
        and clip.meta["camera"] == 1
    ]


examples = {name: clips_of(name, shown) for name in taught}
recognizer = kg.teach("penn-action", examples, "my_model")
for key, value in recognizer.header.training["taught"].items():
    print(f"{key}: {value}")

# %%
for name in (*taught, "clap"):
    answers = [recognizer(clip).accepted for clip in clips_of(name, tested)]
    print(f"{name}:", ", ".join(answer.name if answer else "unknown" for answer in answers))

# %% [markdown]
# "clap" was not taught: the right answer is "unknown". The bundled model has never seen a synthetic performer; its
# features tell these actions apart all the same. The folder `my_model` is a run: `kinegraph watch 0 --model my_model`
# takes it like any other.
