"""`qt` as PythonSlicer shows it, without a window: an empty module."""
