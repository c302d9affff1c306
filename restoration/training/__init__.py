"""Training: one loop, checkpoints it goes on from, and what it learns from."""

from restoration.training.loop import Pairs, Run, train

__all__ = ["Pairs", "Run", "train"]
