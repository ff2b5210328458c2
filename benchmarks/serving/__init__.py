"""Other engines' servers and ours under the same load: parts of `benchmarks.serve_peers`."""
