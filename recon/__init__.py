"""Physics: from a scan's geometry to an image, and how to judge an image."""
