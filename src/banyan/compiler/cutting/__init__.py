"""One graph becomes several: parts that run on different devices and hand values to each other."""
