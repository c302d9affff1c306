# %% [markdown]
# # Comparing methods
#
# Which method is better, by how much, and how sure is that? All methods get the same scans, the same number of trials
# to find their settings on other patients, and the same window, data range and mask for their scores.

# %%
SIZE = 192  # pixels across the images; 80 runs in seconds

# %% [markdown]
# ## What there is to compare
#
# `raymend methods` prints the same list, with what cannot run here and why.

# %%
from raymend import compare
from raymend.comparison.methods import methods

for name, method in methods().items():
    print(f"{name:15} {method.label}; {method.missing() or 'runs here'}")

# %% [markdown]
# ## One call
#
# Cases are phantoms, random patients, volumes from files, measured scans or pairs of images. The first method is the
# baseline. `out="folder"` would keep everything, so that a second call goes on where the first one stopped.

# %%
outcome = compare(
    ["fbp", "fbp-hann", "tv", "nlm"],
    ["anatomy-thorax:1", "anatomy-head:3"],
    metrics=["rmse", "ssim", "noise", "bias"],
    tuning=["anatomy-thorax:901"],
    preset="hyperfed1",
    photons=5e4,
    size=SIZE,
    draws=2,
    budget=4,
    processes=1,
)
print(outcome.table())

# %% [markdown]
# ## How sure is it?
#
# Intervals over noise draws say how well a number of one case is known. Whether a method is better in general depends
# on the cases: changes are paired, case by case, and the bootstrap draws cases.

# %%
for entrant in outcome.entrants[1:]:
    print(f"{entrant.name:10} RMSE against fbp: {outcome.change(entrant.name, 'rmse')}; {entrant.tuning}")

# %% [markdown]
# ## Look at the images
#
# A number hides what it was paid with: the difference row shows edges that were lost, in one scale for all.

# %%
figure = outcome.figure("anatomy-thorax:1", window=(-160, 240))

# %% [markdown]
# ## Dose and views
#
# The same photons can be spent on few views or on many. `plan` sweeps both and finds what is worth its exposure.

# %%
from raymend import plan

sweep = plan(
    ["fbp-hann", "tv"],
    "anatomy-thorax:1",
    photons=[1e4, 1e5],
    views=[64, 256],
    preset="hyperfed1",
    size=SIZE // 2,
    draws=1,
    processes=1,
)
print(sweep.table())

# %%
fbp, tv = (outcome.row("all", name, "rmse").mean for name in ("fbp", "tv"))
assert tv < fbp
assert not outcome.failures()
assert [point.exposure for point in sweep.front("tv")] == sorted(point.exposure for point in sweep.front("tv"))
