"""Edits under a name: the endpoint that writes recipes."""
