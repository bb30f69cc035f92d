"""masked_whiten: ours against our reference, torch.compile of it, and peers. See conftest.py."""


def test_masked_whiten(compare, workload):
    compare(workload)
