"""Certification: whether a method reaches the optimum that its theory promises, in a world that is small enough to list."""
