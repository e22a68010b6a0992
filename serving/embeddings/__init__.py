"""Codes of texts and photographs as embeddings, OpenAI's ``POST /v1/embeddings``."""
