"""Why a photograph's code, its likeness to a text and a word of its caption are what they are."""
