"""Steering looked into: one concept over doses."""
