"""Answers that keep to a shape: a JSON schema, a regular expression, a grammar, a choice."""
