"""Adapters of one engine: loaded by name, seated in the slots of the model, dropped at run time."""
