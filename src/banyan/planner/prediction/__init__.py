"""From a model's graph and what a device was measured to do to seconds, bytes and joules. Pure."""
