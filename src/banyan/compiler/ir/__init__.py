"""The one representation: symbolic sizes, types, nodes, graphs, their text and their rules."""
