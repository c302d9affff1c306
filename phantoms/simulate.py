"""Simulate a scan of a phantom, patient or volume: line integrals, averaged over each pixel, with or without noise."""

import warnings

import torch
from torch import Tensor

from phantoms.dose import Dose, dead_pixels, detect
from phantoms.phantom import subrays_of
from phantoms.spectrum import Spectrum, split
from phantoms.voxels import Scannable, VolumeObject
from recon.errors import ConfigError, CTWarning
from recon.geometry import ScanGeometry
from recon.io import Volume
from recon.random import generator
from recon.scan import Calibration, Scan
from recon.sinogram.crosstalk import noise_share
from recon.sinogram.preprocess import interpolate_dead
from recon.statistics import logarithm, noise_weights, starvation


def simulate(
    phantom: Scannable | Volume,
    geometry: ScanGeometry,
    *,
    dose: Dose | None = None,
    seed: int | None = None,
    poses: Tensor | None = None,
    subrays: int | tuple[int, int] = 2,
    averaging: str = "exponential",
    spectrum: Spectrum | None = None,
) -> Scan:
    """Scan a phantom, a patient or a volume.

    No grid has seen a `Phantom`, so that a reconstruction is not tested on its own discretisation; patients and volumes
    are voxels: reconstruct them on others (see `VolumeObject`).

    Args:
        phantom: what is scanned: a `Phantom`, an `Anatomy`, a `VolumeObject`, or a volume in HU or 1/mm as
            `read_volume` returns it, which is centred on the axis and taken as at 70 keV.
        geometry: the scanner.
        dose: photons and electronic noise, or None for a scan without noise.
        seed: what the noise is drawn from; needed with a dose.
        poses: motion of the phantom per view (view, 6), mm and rad. The scan does not know it: state what is known
            or estimated with `scan.moved(poses)`.
        subrays: rays per pixel (v, u), spread evenly over its area; 2 means 2 × 2, and 1 × 2 on a detector of one
            row, which sees a plane.
        averaging: "exponential" averages the photons of sub-rays, as a detector does, "log" their line integrals.
        spectrum: energies of the beam, or None for one energy. Line integrals are corrected for the beam hardening of
            water, so that bone alone leaves its streaks; photons are counted before the correction.

    Returns:
        The scan, float32, with weights (inverse variance) if there is noise.

    Raises:
        ConfigError: a dose without a seed, or sub-rays or an averaging that do not exist.

    Source:
        Noise: Zeng et al. 2015, IEEE TNS 62(5), eq. 1, with N at least 1; weights: see `recon.noise_weights`.
    """
    if dose is not None and seed is None:
        raise ConfigError("seed: expected an integer of 0 or more with a dose, got None; say simulate(..., seed=0)")
    if isinstance(phantom, Volume):
        phantom = VolumeObject.of(phantom)
    values = phantom.line_integrals(geometry, poses, subrays=subrays, averaging=averaging, dtype=torch.float64)
    v, u = subrays_of(geometry, subrays)
    steps = [f"simulated {phantom.name}: {v} x {u} sub-rays per pixel, {averaging} average"]
    energy = getattr(phantom, "energy", None)
    if energy is not None:
        steps.append(f"attenuation at {energy:g} keV")
    if poses is not None:
        steps.append("the phantom moved; the scan does not state how")
    if spectrum is not None:
        soft = split(phantom).line_integrals(geometry, poses, subrays=subrays, averaging=averaging, dtype=torch.float64)
        values = spectrum.measured(soft, values - soft)
        steps.append(
            f"beam of {spectrum.mean_energy:.1f} keV on average, corrected for water at {spectrum.reference:g} keV"
        )
    if dose is None:
        values = values if spectrum is None else spectrum.corrected(values)
        calibration = Calibration(water=phantom.water)
        return Scan(geometry=geometry, values=values.float(), calibration=calibration, provenance=tuple(steps))
    assert seed is not None  # refused above; this tells the type checker
    scan = _noisy(values, geometry, dose, seed, phantom.water, steps)
    return scan if spectrum is None else _corrected(scan, spectrum)


def _corrected(scan: Scan, spectrum: Spectrum) -> Scan:
    """Correct a scan for the beam hardening of water, which stretches its noise, too."""
    assert scan.weights is not None
    values = spectrum.corrected(scan.values)
    stretch = 1 / spectrum.slope(values)
    return scan.changed(values=values.float(), weights=(scan.weights / stretch**2).float())


def _noisy(values: Tensor, geometry: ScanGeometry, dose: Dose, seed: int, water: float, steps: list[str]) -> Scan:
    """Return the scan with noise drawn from a seed, and its weights."""
    rng = generator(seed)
    counts, incident = detect(values, dose, geometry, rng)
    noisy, starved = logarithm(counts, incident)
    bad = dead_pixels(dose.dead, geometry, rng)
    noisy = interpolate_dead(noisy, bad)
    steps.append(f"noise: {dose}, seed {seed}")
    if starved:
        steps.append(starvation(starved, counts.numel()))
        warnings.warn(f"values: {steps[-1]}; raise Dose.photons, or expect streaks", CTWarning, stacklevel=3)
    if bad.any():
        steps.append(f"{int(bad.sum())} of {bad.numel()} pixels were dead: interpolated along their rows, weight 0")
    kept = noise_share(dose.crosstalk, geometry.detector.shape[0])  # of the quanta's variance, not of the electrons'
    return Scan(
        geometry=geometry,
        values=noisy.float(),
        weights=(noise_weights(noisy, incident / kept, dose.electronic / kept**2) * ~bad).float(),
        calibration=Calibration(photons=float(incident.mean()), electronic=dose.electronic, water=water),
        provenance=tuple(steps),
    )
