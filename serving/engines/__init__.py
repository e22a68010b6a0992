"""What runs the language model behind the gateway: transformers in this process, or vLLM over HTTP."""
