"""Weights that raymend ships, each with a card of its recipe and scores, and how such files are read."""
