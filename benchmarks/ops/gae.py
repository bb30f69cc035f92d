"""gae: ours against our reference, torch.compile of it, and peers. See conftest.py."""


def test_gae(compare, workload):
    compare(workload)
