"""Common Crawl to a decontaminated mathematical corpus (DeepSeekMath 2.1): the loop as one resumable process.

pipeline.mine runs the stages, in the order of the data: web reads the crawl, extract turns its pages into text, pages and
crawl hold them as shards on disk, duplicates finds copies, loop trains, scores and collects, annotate judges URL paths,
corpus takes benchmarks out and writes what is left. Imports no jax of its own and never starts a backend.
"""
