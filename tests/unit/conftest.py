import sys
import textwrap

import pytest


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Write a real distribution (modules and dist-info) where importlib.metadata finds it."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    known = set(sys.modules)

    def write(name, version="1.0", entry_points=(), *, requires=(), **modules):
        for module, source in modules.items():
            (site / f"{module}.py").write_text(textwrap.dedent(source))
        about = site / f"{name.replace('-', '_')}-{version}.dist-info"
        about.mkdir()
        needed = "".join(f"Requires-Dist: {line}\n" for line in requires)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}")
        record = [f"{module}.py,," for module in modules]
        (about / "RECORD").write_text("\n".join([*record, f"{about.name}/METADATA,,", ""]))
        points = "".join(f"{key} = {value}\n" for key, value in dict(entry_points).items())
        (about / "entry_points.txt").write_text(f"[alignlab]\n{points}")
        return about

    yield write
    for module in set(sys.modules) - known:
        if getattr(sys.modules[module], "__file__", None) and str(site) in str(sys.modules[module].__file__):
            del sys.modules[module]
