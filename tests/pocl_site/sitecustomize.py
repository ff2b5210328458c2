"""Python reads this when it starts with this folder on PYTHONPATH: children of tests use PoCL."""

from tests.pocl import prepare_pocl

prepare_pocl()
