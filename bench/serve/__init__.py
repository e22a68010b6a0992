"""How fast the server is, beside what it stands on and what one would write without it."""
