"""Analytic reconstruction: FBP and FDK."""

from recon.analytic.fbp import fbp, fdk
from recon.analytic.filters import WINDOWS

__all__ = ["WINDOWS", "fbp", "fdk"]
