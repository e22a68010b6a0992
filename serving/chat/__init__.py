"""Chat completions, OpenAI's ``POST /v1/chat/completions`` with a ``steering`` object."""
