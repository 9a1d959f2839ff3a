"""The collected pages to the corpus: benchmarks taken out, provenance and a card written."""
