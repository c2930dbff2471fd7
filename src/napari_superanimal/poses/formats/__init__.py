"""Reading and writing labels and predictions: one file per on-disk format, found through `registry`."""
