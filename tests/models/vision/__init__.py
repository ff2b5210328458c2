"""Pictures in front of models."""
