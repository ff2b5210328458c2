"""What builds the environment and the pages; never imported by the package."""
