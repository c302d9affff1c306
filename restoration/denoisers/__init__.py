"""Denoisers of CT slices: classical, learned and a user's own, behind one interface."""

from restoration.denoisers.noise_level import noise_level

__all__ = ["noise_level"]
