"""Models that see: images into rows that stand among the rows of words."""
