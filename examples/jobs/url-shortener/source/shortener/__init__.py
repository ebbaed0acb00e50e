"""A small link shortener on the Python standard library."""
