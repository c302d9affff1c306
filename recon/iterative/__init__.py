"""Iterative reconstruction: terms, solvers, and the one loop that runs them."""

from recon.iterative.methods import cgls, fista_tv, os_sart, sirt
from recon.iterative.priors import (
    AnisotropicDiffusion,
    GeneralisedGaussian,
    Huber,
    NonLocal,
    Prior,
    Quadratic,
    RoundedTV,
    TotalVariation,
)
from recon.iterative.pwls import balanced_huber, pwls
from recon.iterative.solve import Solution, Stop, solve
from recon.iterative.solvers import CGLS, FISTA, OSSART, SIRT, OSMomentum, PrimalDual, Solver, State
from recon.iterative.terms import Box, LeastSquares, NonNegative, ProximableTerm, SmoothTerm, ray_weights

__all__ = [
    "CGLS",
    "FISTA",
    "OSSART",
    "SIRT",
    "AnisotropicDiffusion",
    "Box",
    "GeneralisedGaussian",
    "Huber",
    "LeastSquares",
    "NonLocal",
    "NonNegative",
    "OSMomentum",
    "PrimalDual",
    "Prior",
    "ProximableTerm",
    "Quadratic",
    "RoundedTV",
    "SmoothTerm",
    "Solution",
    "Solver",
    "State",
    "Stop",
    "TotalVariation",
    "balanced_huber",
    "cgls",
    "fista_tv",
    "os_sart",
    "pwls",
    "ray_weights",
    "sirt",
    "solve",
]
