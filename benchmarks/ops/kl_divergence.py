"""kl_divergence: ours against our reference, torch.compile of it, and peers. See conftest.py."""


def test_kl_divergence(compare, workload):
    compare(workload)
