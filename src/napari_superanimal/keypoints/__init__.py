"""The vocabulary: keypoint spaces and conversion tables. Knows nobody else in the package."""

from napari_superanimal.keypoints.space import (
    BUILTIN_SPACES,
    KeypointSpace,
    load_space,
    space_from_names,
)
from napari_superanimal.keypoints.table import (
    ConversionTable,
    builtin_tables,
    find_table,
    identity_table,
    load_table,
    look_up_table,
    read_table,
    table_for,
    write_table,
)

__all__ = [
    "BUILTIN_SPACES",
    "ConversionTable",
    "KeypointSpace",
    "builtin_tables",
    "find_table",
    "identity_table",
    "load_space",
    "load_table",
    "look_up_table",
    "read_table",
    "space_from_names",
    "table_for",
    "write_table",
]
