"""Replies as OpenAI's API spells them, one module per kind of request.

Owns the reply types; field order and nulls follow OpenAI's. Never decides anything. Filled in
by the routes.
"""
