"""Steps of a solution: where they end in text and in tokens, and files of solutions whose steps are labelled."""
