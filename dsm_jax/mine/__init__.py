"""Common Crawl to a decontaminated mathematical corpus (DeepSeekMath 2.1): the loop as one resumable process.

pipeline.mine runs the stages; read, extract, classify, rank, domains, decontaminate and export are one stage
each. Imports no jax of its own and never starts a backend.
"""
