"""Denoisers of CT slices: classical, learned and a user's own, behind one interface."""

from restoration.denoisers.denoiser import Denoiser, Slicewise
from restoration.denoisers.noise_level import noise_level
from restoration.denoisers.registry import DENOISERS, denoiser

__all__ = ["DENOISERS", "Denoiser", "Slicewise", "denoiser", "noise_level"]
