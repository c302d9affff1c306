"""Denoisers of CT slices: classical, learned and a user's own, behind one interface."""

from restoration.denoisers.denoiser import Denoiser, Slicewise
from restoration.denoisers.noise2inverse import noise2inverse
from restoration.denoisers.noise_level import noise_level
from restoration.denoisers.plug_and_play import plug_and_play
from restoration.denoisers.registry import DENOISERS, denoiser

__all__ = ["DENOISERS", "Denoiser", "Slicewise", "denoiser", "noise2inverse", "noise_level", "plug_and_play"]
