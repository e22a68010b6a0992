"""How well steering works: what is measured, on which images, beside which baselines."""
