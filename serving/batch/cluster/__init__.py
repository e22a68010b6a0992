"""Captions on many machines: the same pipeline as steps of Ray Data. Ray is an extra."""
