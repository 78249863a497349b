# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Explain an answer
#
# Which joints in which frames decide the action of a clip, and is that better than chance? The clip is the first one of a
# performer outside the training set that the model names right.

# %%
import kinegraph as kg
from kinegraph.readers import get_reader

kg.convert(get_reader("synthetic"), "raw", "synthetic.arrow", options={"performers": 6})
run = kg.train(kg.load_recipe("demo", ["store=synthetic.arrow", "train.epochs=10"]), "run")

# %%
from kinegraph.inference.explain import explain, load_explainable

store = kg.ClipStore("synthetic.arrow")
model = load_explainable("run")
tested = (clip for clip in store if clip.meta["subject"] == 3)
clip = next(clip for clip in tested if model(clip).name == store.classes[clip.label])
explanation = explain(model, clip)
print(f"{explanation.name} {explanation.probability:.0%}")
for joint, share in list(explanation.joint_shares(explanation.best).items())[:5]:
    print(f"{joint}: {share:.0%}")

# %% [markdown]
# Joints are as large as they are important.

# %%
from kinegraph.reports.draw_clip import draw_clip

draw_clip(clip, importance=explanation.importance[explanation.best])

# %% [markdown]
# The test: joints are frozen, the most important first. If the explanation is right, the probability falls faster than
# with joints in random order.

# %%
from kinegraph.reports.draw_explanation import draw_heat_map

area = explanation.curves[explanation.best].area
print(f"area under the deletion curve {area:.3f}, in random order {explanation.random.area:.3f}")
draw_heat_map(explanation)
