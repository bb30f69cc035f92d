import json

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "alignlab-brevity"
version = "3.1.4"
dependencies = ["alignlab"]

[project.entry-points.alignlab]
"method.brief" = "alignlab_brevity"

[tool.setuptools.packages.find]
where = ["src"]
"""

MODULE = '''
"""A method of someone else."""

from alignlab import Loss, MethodSettings, Role, hookimpl


class Brief(MethodSettings):
    """Make answers short."""

    name = "brief"
    roles = {"policy": Role()}
    per = "token"
    rows = "completion"

    def optimize(self, run, batch):
        return Loss(run.logp("policy", batch).sum())


@hookimpl
def register_methods():
    return [Brief]
'''


def test_a_package_of_someone_else_is_listed_with_its_version(installed, tmp_path):
    package = tmp_path / "src" / "alignlab_brevity"
    package.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (package / "__init__.py").write_text(MODULE)
    installed.install("--no-build-isolation", tmp_path)
    listed = json.loads(installed.run("alignlab", "plugins", "list", "--json").stdout)
    (brief,) = [row for row in listed if row["distribution"] == "alignlab-brevity"]
    assert (brief["kind"], brief["name"], brief["version"]) == ("method", "brief", "3.1.4")
