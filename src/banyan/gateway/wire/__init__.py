"""Requests as OpenAI's API spells them, parsed strictly.

Owns the request types and the words of their errors. Never computes anything. Called by the
routes with the raw body; `GET /openapi.json` is made from the same types.

One module per kind of request, and one per group of fields that several kinds share; a request
type inherits its groups one after another. Three kinds of fields: those we serve; those of OpenAI
and vLLM that are harmless here and accepted without effect (`store`, `metadata`, ...); and those
we know but do not serve, refused by name: each class lists its own in `not_served`. Anything else
is an unknown field and is refused too: a misspelt option must not pass silently.
"""
