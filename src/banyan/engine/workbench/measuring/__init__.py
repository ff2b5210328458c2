"""Measures what compiled programs reach on a device: linear layers, attention, rows, copies."""
