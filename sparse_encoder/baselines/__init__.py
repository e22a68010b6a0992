"""What Sparsight's codes are compared with: sparse codes made of dense ones after the training."""
