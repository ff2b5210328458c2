"""Readers of quantised layers as hubs have them, one module for each way to store them."""
