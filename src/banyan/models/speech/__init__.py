"""Models that write down speech: Whisper, from the samples of a sound to the graphs that serve."""
