"""docs/testing.md has every check, in order, and every public name is there."""

import re
from pathlib import Path

import pytest

from alignlab import testing

DOCS = (Path(__file__).parents[3] / "docs" / "testing.md").read_text()


@pytest.mark.parametrize("kind", ["method", "reward", "judge", "data"])
def test_every_check_is_in_the_docs_in_order(kind):
    section = DOCS.split(f"## check_{kind}\n")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == getattr(testing, f"{kind.upper()}_CHECKS")


def test_every_public_name_stands_where_it_is_looked_for():
    assert all(getattr(testing, name) is not None for name in testing.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'check_metod'"):
        _ = testing.check_metod
