"""Certification: whether a method reaches the optimum that its theory promises, in a world small enough to list."""
