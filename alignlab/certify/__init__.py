"""Certification: does a method reach the optimum that its theory promises, in a world small enough to list?"""
