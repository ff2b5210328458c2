"""A plan on a simulated clock: requests in, latency, utilisation and cost out. Pure."""
