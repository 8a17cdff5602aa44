"""Runs any attack at the cost of the gradients that it needs."""
