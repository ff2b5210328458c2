"""The engine in a process of its own: its loop, its messages, and the client that restarts it."""
