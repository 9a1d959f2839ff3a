"""From text and problems to batches: packed windows, mixtures, SFT examples, and the problem generator."""
