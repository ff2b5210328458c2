"""Images beside the tokens of a step."""
