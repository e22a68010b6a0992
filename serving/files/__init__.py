"""Files that clients leave here, OpenAI's ``/v1/files``: what batches read and write."""
