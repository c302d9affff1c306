# %% [markdown]
# # Your own method
#
# A function of a slice in HU enters a comparison beside all others: its strength is tuned with the same budget, its
# failures stay its own, and its row stands in the same table.

# %%
SIZE = 192  # pixels across the images; 80 runs in seconds

# %% [markdown]
# ## Ten lines
#
# The function takes the slice, and the standard deviation of its noise if it wants it. Here it is SciPy's median
# filter; a network of your own, or BM3D, goes in the same way. From the command line it is
# `raymend compare --methods fbp,my_denoiser.py:function`.

# %%
from functools import partial

from scipy.ndimage import median_filter

from raymend import compare
from restoration.plug_in import plug_in

median = plug_in(partial(median_filter, size=3), name="median")
outcome = compare(
    ["fbp", median, "tv"], ["anatomy-thorax:1", "anatomy-abdomen:2"], tuning=["anatomy-head:903"],
    preset="hyperfed1", photons=5e4, size=SIZE, draws=2, budget=4,
)  # fmt: skip
print(outcome.table())

# %% [markdown]
# ## What it did
#
# The strength of a function that does not take the noise is how much of its change is made. The table said which was
# chosen; the images show what that means.

# %%
figure = outcome.figure(0, window=(-160, 240))
print({entrant.name: entrant.tuning for entrant in outcome.entrants})

# %% [markdown]
# ## When it fails
#
# A method that raises, or returns NaN or another shape, says so in its cells, and the rest goes on.

# %%
broken = compare(
    ["fbp", plug_in(partial(median_filter, size=-1), name="broken")], ["shepp-logan"],
    preset="hyperfed1", size=SIZE, draws=1, budget=1,
)  # fmt: skip
print(broken.failures())

# %%
assert outcome.row("all", "median", "rmse").mean < outcome.row("all", "fbp", "rmse").mean
assert [method for _, method, _ in broken.failures()] == ["broken"]
