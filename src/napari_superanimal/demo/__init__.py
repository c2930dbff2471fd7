"""Rendered recordings with known truth."""
