"""What can be proved of a model: constants of its graph, rounding, radii."""
