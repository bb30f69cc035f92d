"""kl_estimate: ours against our reference, torch.compile of it, and peers. See conftest.py."""


def test_kl_estimate(compare, workload):
    compare(workload)
