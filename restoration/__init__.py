"""Restore CT images: denoisers, classical, learned and a user's own, alone or as a prior."""
