"""Speculation: guess tokens cheaply, check all of them in one step, lose nothing."""
