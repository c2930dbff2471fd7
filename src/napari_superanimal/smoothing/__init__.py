"""Mending predicted tracks: left/right swaps, outliers, smoothing. Arrays only: no model is needed."""

from napari_superanimal.smoothing.clean import clean, find_problems
from napari_superanimal.smoothing.findings import Finding, body_size
from napari_superanimal.smoothing.smooth import METHODS, SmoothOptions, smooth

__all__ = ["METHODS", "Finding", "SmoothOptions", "body_size", "clean", "find_problems", "smooth"]
