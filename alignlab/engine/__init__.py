"""What turns a recipe into runs: phases, microbatches, checkpoints."""
