"""Whether the gateway can answer."""
