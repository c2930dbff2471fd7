"""Layers that leave a real window, in a process of its own: what goes wrong there ends the process."""

from __future__ import annotations

import subprocess
import sys

REMOVING = """
import time
import napari, numpy as np
from qtpy.QtWidgets import QApplication
from napari_superanimal.plugin.session import show_poses
from napari_superanimal.poses import make_poses

def wait():
    until = time.monotonic() + 0.4
    while time.monotonic() < until:
        QApplication.processEvents()

rng = np.random.default_rng(0)
viewer = napari.Viewer()
viewer.add_image(np.zeros((20, 240, 320, 3), np.uint8), rgb=True)
poses = make_poses(
    ("nose", "left_ear", "right_ear"),
    rng.uniform(10, 200, (20, 1, 3, 2)),
    individuals=("animal0",),
    boxes=rng.uniform(10, 200, (20, 1, 4)),
    skeleton=(("nose", "left_ear"), ("nose", "right_ear")),
)
for _ in range(2):
    show_poses(viewer, poses, name="p", threshold=0.6)
    wait()
    ours = [layer for layer in viewer.layers if layer is not viewer.layers[0]]
    for layer in ours:
        layer.visible = False
    wait()
    for layer in ours:
        viewer.layers.remove(layer)
        wait()
print("layers left", len(viewer.layers))
viewer.close()
"""


def test_hidden_layers_can_be_removed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REMOVING], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "layers left 1" in done.stdout
