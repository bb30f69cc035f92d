import torch

# Tests use small tensors: more threads only get into each other's way.
torch.set_num_threads(1)
