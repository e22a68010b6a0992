"""How features come to be: the kept checkpoints of a training run, feature by feature."""
