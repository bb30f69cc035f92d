"""The ops in plain torch, a file each: what tests take for the truth, and benchmarks for the baseline."""
