"""Checks that a third party runs on what it adds to alignlab. May import all of it, and is imported by none of it."""

from alignlab.testing.ops import check_op, compare_op

__all__ = ["check_op", "compare_op"]
