"""Which block sizes are known to be good: shipped, or found by the tuner on this machine."""
