"""Tests of adapters in the engine."""
