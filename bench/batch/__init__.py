"""How fast a batch is beside a plain loop, and what memory it takes."""
