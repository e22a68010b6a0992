"""Judging an encoder: retrieval, zero-shot, sparsity, modality, purity; one report of all."""
