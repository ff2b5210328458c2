"""Weights of 4 and 8 bits: read as hubs have them, made here, written, and measured."""
