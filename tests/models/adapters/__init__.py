"""Tests of low-rank adapters."""
