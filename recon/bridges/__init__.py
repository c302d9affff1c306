"""Projectors of other toolboxes as operators, for comparison: loaded when used, never needed."""

from recon.bridges.astra import AstraProjector

__all__ = ["AstraProjector"]
