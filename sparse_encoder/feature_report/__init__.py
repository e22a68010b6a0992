"""A model's features as a folder of static pages, and in the layouts of other tools."""
