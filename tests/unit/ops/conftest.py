import pytest

from alignlab import ops


@pytest.fixture(params=["reference", "auto"])
def each_backend(request):
    """Run a test with the reference, and with what "auto" takes: native where it is built, but for fp64."""
    with ops.use_backend(request.param):
        yield request.param
