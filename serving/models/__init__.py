"""Which model is served, OpenAI's ``GET /v1/models``."""
