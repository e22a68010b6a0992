"""Why a code, a likeness or a word of a caption is what it is."""
