"""Several experiments, and what they show together."""
