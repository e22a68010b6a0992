"""Where in a photograph a feature or a concept is."""
