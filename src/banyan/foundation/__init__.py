"""Errors, settings and telemetry. Standard library only; everything else may import it."""
