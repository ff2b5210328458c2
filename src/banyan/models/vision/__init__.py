"""Models that see: pictures into rows that stand among the rows of words."""
