"""Dock widgets: forms over the engine's jobs, no science."""
