"""Solvers, a file each: settings that are frozen, states that can be stored."""

from typing import Any

from recon.iterative.solvers.base import Solver, State
from recon.iterative.solvers.cgls import CGLS
from recon.iterative.solvers.fista import FISTA
from recon.iterative.solvers.os_momentum import OSMomentum
from recon.iterative.solvers.os_sart import OSSART
from recon.iterative.solvers.primal_dual import PrimalDual
from recon.iterative.solvers.sirt import SIRT

#: Every solver by name, for files that must say which one they belong to.
SOLVERS: dict[str, type[Solver[Any]]] = {
    kind.__name__: kind for kind in (CGLS, FISTA, OSMomentum, OSSART, PrimalDual, SIRT)
}

__all__ = ["CGLS", "FISTA", "OSSART", "SIRT", "SOLVERS", "OSMomentum", "PrimalDual", "Solver", "State"]
