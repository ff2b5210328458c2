"""The conformance kit: what a device must do before Banyan says that models run on it."""
