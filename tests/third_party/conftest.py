"""The tests below need their packages installed: tests/packaging runs them, in an environment of their own."""

collect_ignore_glob = ["alignlab-*"]
