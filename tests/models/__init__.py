"""Tests of `banyan.models`."""
