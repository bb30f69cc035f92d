"""ppo_value_loss: ours against our reference, torch.compile of it, and peers. See conftest.py."""


def test_ppo_value_loss(compare, workload):
    compare(workload)
