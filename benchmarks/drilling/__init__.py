"""What drills need beside a server: a worker behind a network, and a link that can be cut."""
