"""Animal poses without labelling: SuperAnimal models in napari and on the command line."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("napari-superanimal")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0.0.0"

__all__ = ["__version__"]
