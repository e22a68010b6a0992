"""The features of an image, and features by name."""
