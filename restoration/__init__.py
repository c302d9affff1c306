"""Restore CT images and projections with learned methods; arrives with its first method."""
