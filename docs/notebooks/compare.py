# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Compare models
#
# One accuracy of one training means little: another seed gives another figure. This notebook trains two settings with
# three seeds each, and compares them on the same test clips.

# %%
import kinegraph as kg
from kinegraph.readers import get_reader

kg.convert(get_reader("synthetic"), "raw", "synthetic.arrow", options={"performers": 6})

# %%
from pathlib import Path

runs = []
for stream in ("joint", "bone"):
    for seed in (0, 1, 2):
        changes = ["store=synthetic.arrow", f"stream={stream}", f"seed={seed}", "train.epochs=3"]
        runs.append(kg.train(kg.load_recipe("demo", changes), Path(f"{stream}-{seed}")))

# %%
from kinegraph.inference.compare_runs import compare_runs

comparison = compare_runs(runs)
for setting in comparison.settings:
    print(
        f"{setting.name}: {setting.mean:.1%} ± {setting.std:.1%} over {len(setting.values)} seeds"
    )
low, high = comparison.settings[1].difference.interval
print(f"difference, 95 % confidence interval: {100 * low:+.1f} to {100 * high:+.1f} points")

# %%
from kinegraph.reports.draw_compare import draw_comparison

draw_comparison(comparison)

# %% [markdown]
# If the interval contains 0, three seeds do not show which setting is better. Three epochs are far too few for a
# good model; they are enough to show how to compare.
