"""One module per command of ``superanimal``; `napari_superanimal.cli` puts them together."""
