"""A training step as a page that can be walked through."""
