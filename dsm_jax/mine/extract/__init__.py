"""A page's HTML to text that keeps the mathematics, and the language of it."""
