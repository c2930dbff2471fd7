"""Videos, image folders and single images as frame-exact, lazy, thread-safe arrays."""

from napari_superanimal.video.folder import MixedSizes
from napari_superanimal.video.open import IMAGE_SUFFIXES, VIDEO_SUFFIXES, open_video
from napari_superanimal.video.video import Video
from napari_superanimal.video.write import VideoWriter

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "MixedSizes", "Video", "VideoWriter", "open_video"]
