"""Tests, one folder per layer of `src/banyan`."""
