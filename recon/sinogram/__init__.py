"""Restoration and preparation of the projections themselves, before any image exists."""
