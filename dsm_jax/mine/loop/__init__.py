"""The iterations: seed and negatives, a classifier, scores, the best pages, mathematical domains, a larger seed."""
