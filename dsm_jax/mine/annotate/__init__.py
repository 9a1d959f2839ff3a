"""Judging URL paths: what an iteration shows, decisions of people and models, and the page in the browser."""
