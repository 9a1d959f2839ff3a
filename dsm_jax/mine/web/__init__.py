"""Files of Common Crawl, from wherever they are, to pages: damage is counted and skipped, never fatal."""
