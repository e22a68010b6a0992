"""Many requests as one file, OpenAI's ``/v1/batches``."""
