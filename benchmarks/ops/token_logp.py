"""token_logp: ours against our reference, torch.compile of it, and peers. See conftest.py."""


def test_token_logp(compare, workload):
    compare(workload)
