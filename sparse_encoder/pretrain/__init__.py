"""Pretraining of whole towers on image-text pairs, on any number of processes."""
