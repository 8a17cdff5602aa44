"""What can be learned from a model without attacking it."""
