"""How a model is trained best over uneven devices."""
