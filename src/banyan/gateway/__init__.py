"""The HTTP API: OpenAI's shapes in front of one text model.

Owns the wire format, its errors and its metrics. Never knows which chip or process runs the
model: that is behind the `Backend` it is given.
"""
