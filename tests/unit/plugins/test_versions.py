import pytest

from alignlab.plugins.versions import fits, next_range


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("0.1.0", ">=0.1.0,<0.2"),
        ("0.9.3", ">=0.9.3,<0.10"),
        ("1.4.2", ">=1.4.2,<2"),
        ("0.2.0.dev1", ">=0.2.0.dev1,<0.3"),
    ],
)
def test_a_new_plugin_is_for_the_versions_that_break_nothing(version, wanted):
    assert next_range(version) == wanted
    assert fits(wanted, version)


@pytest.mark.parametrize(
    ("wanted", "version", "fit"),
    [
        ("", "0.1.0", True),
        (">=0.1,<0.2", "0.1.9", True),
        (">=0.1,<0.2", "0.2.0", False),
        (">=0.1", "0.2.0rc1", True),  # an early release is one that its users want
        (">=0.2", "0.2.0rc1", False),
        (">=zero", "0.1.0", False),
    ],
)
def test_a_version_is_in_a_range_or_not(wanted, version, fit):
    assert fits(wanted, version) is fit
