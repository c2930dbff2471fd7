"""Adapting a model to videos without labels, and the proof that it helped."""
