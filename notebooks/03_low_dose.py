# %% [markdown]
# # Low dose
#
# What fewer photons do to an image, and what weighing every ray by its noise gives back. The object is a random patient
# with textured organs, scanned by a fan beam; lengths are in mm, images in HU.

# %%
SIZE = 192  # pixels across the image; 80 runs in seconds

# %% [markdown]
# ## A dose in physical units
#
# `Dose` counts the mean photons per detector pixel and view without an object. A tube current works, too, once an air
# scan has told how many photons a mAs gives. The electronic noise is a variance in photons squared.

# %%
import matplotlib.pyplot as plt
import torch

from phantoms import Dose, anatomy, simulate
from raymend.low_dose import low_dose
from recon import ConeBeam, Detector, VolumeGrid, fbp, pwls, reduce_dose, to_hu
from recon.metrics import Protocol, evaluate

columns = 672 * SIZE // 512
scanner = ConeBeam.circular(
    2 * SIZE,
    detector=Detector(shape=(1, columns), pitch=(1.4, 945 / columns), curve="arc"),
    source_to_axis=570,
    source_to_detector=1040,
)
grid = VolumeGrid(shape=(1, 11 * SIZE // 16, SIZE), spacing=(1.0, 420 / SIZE, 420 / SIZE))
patient = anatomy(seed=3).voxels(0, 0)  # one slice of the thorax, 0.6 mm apart
doses = {
    "low": Dose(photons=1e5, electronic=10),
    "middle": Dose(photons=4e5, electronic=10),
    "high": Dose.of_current(2.0, photons_per_mas=1e6, electronic=10),
}

# %% [markdown]
# ## One patient at three doses
#
# The noise-free scan is the reference: it holds the blur of reconstruction, which no method here is asked to undo.

# %%
clean = simulate(patient, scanner)
water = clean.calibration.water
reference = to_hu(fbp(clean, grid), water)
scans = {name: simulate(patient, scanner, dose=dose, seed=1) for name, dose in doses.items()}

figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
for place, (name, scan) in zip(axes, scans.items(), strict=True):
    image = to_hu(fbp(scan, grid), water)
    place.imshow(image[0].numpy(), cmap="gray", vmin=-160, vmax=240)
    darkest = scan.calibration.photons * torch.exp(-clean.values.max())
    place.set_title(f"{name}: {scan.calibration.photons:.0e} photons, {darkest:.0f} behind the darkest ray", fontsize=9)
    place.set_axis_off()

# %% [markdown]
# ## Smooth the projections as their noise asks
#
# `low_dose` restores the projections by penalised weighted least squares before filtered backprojection. Three
# penalties are at hand: Gibbs, total variation and sub-pixel anisotropic diffusion. Nobody tunes them: Stein's unbiased
# risk estimate tells the error of each candidate in the image, without the truth.

# %%
scan = scans["low"]
images = {"FBP": fbp(scan, grid), "FBP, Hann": fbp(scan, grid, window="hann")}
for method in ("gibbs", "tv", "spad"):
    result = low_dose(scan, grid, method=method)
    images[f"PWLS-{method}"] = result.image
    print(method, "chose", result.restored.restorer)

# %% [markdown]
# ## Or penalise the image
#
# `pwls` fits the image to all rays at once, each with its weight, and Huber's prior keeps edges. Its blur is not that
# of FBP, for which a reference made by FBP charges it; the phantom itself does not.

# %%
solution = pwls(scan, grid, start=images["FBP, Hann"].clamp_min(0), iterations=15)
images["PWLS, image"] = solution.image
print(solution.status, solution.advice)

# %% [markdown]
# ## Scores that say what they rest on
#
# A protocol states reference, window, region and unit; without it no score is given.

# %%
body = reference > -900
truth = to_hu(patient.rasterised(grid), water)
protocol = Protocol(reference="noise-free reconstruction", window="abdomen", mask=body, region="body")
exact = Protocol(reference="phantom", window="abdomen", mask=body, region="body")
scores = {name: evaluate(to_hu(image, water), reference, protocol) for name, image in images.items()}
print(protocol)
for name, row in scores.items():
    print(f"{name:12}", *(f"{score.label} {score.value:.3f}" for score in row))
print(exact)
for name, image in images.items():
    print(f"{name:12}", *(f"{score.label} {score.value:.3f}" for score in evaluate(to_hu(image, water), truth, exact)))

figure, axes = plt.subplots(2, len(images), figsize=(18, 4.6), layout="constrained")
for (above, below), (name, image) in zip(axes.T, images.items(), strict=True):
    hu = to_hu(image, water)[0]
    above.imshow(hu.numpy(), cmap="gray", vmin=-160, vmax=240)
    below.imshow((hu - reference[0]).numpy(), cmap="RdBu_r", vmin=-150, vmax=150)
    above.set_title(f"{name}: {scores[name][0].value:.0f} HU RMSE", fontsize=9)
    above.set_axis_off()
    below.set_axis_off()

# %% [markdown]
# ## Lower the dose of a scan that exists
#
# `reduce_dose` keeps the noise of a measured scan and inserts what is missing. A quarter of the middle dose is the low
# one, so the noise should be that of the scan above.

# %%
reduced = reduce_dose(scans["middle"], 0.25, seed=5)
noise = {name: float((one.values - clean.values).std()) for name, one in (("low", scan), ("reduced", reduced))}
print(reduced.provenance[-1], noise)

# %%
errors = {name: row[0].value for name, row in scores.items()}
assert abs(noise["reduced"] / noise["low"] - 1) < 0.05
assert min(errors["PWLS-gibbs"], errors["PWLS-tv"], errors["PWLS-spad"]) < min(errors["FBP"], errors["FBP, Hann"])
