"""Tests of `banyan.engine.vision`."""
