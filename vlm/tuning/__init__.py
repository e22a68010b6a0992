"""Tuning a captioner on any encoder and any causal language model, on any number of processes."""
