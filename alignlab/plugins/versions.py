"""Which alignlab a plugin was built for: what its distribution declares, so that this is known before an import."""

from importlib.metadata import Distribution

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from alignlab import __version__
from alignlab.hooks import PROJECT


def declared_range(distribution: Distribution) -> str:
    """Return the versions of alignlab that a distribution asks for, such as ">=0.1,<0.2"; "" if any will do."""
    found = SpecifierSet()
    for line in distribution.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue  # pip's to complain of
        needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if needed and canonicalize_name(requirement.name) == PROJECT:
            found &= requirement.specifier
    return ",".join(sorted(map(str, found), reverse=True))  # ">=" before "<"


def fits(wanted: str, version: str = __version__) -> bool:
    """Return whether a version of alignlab, an early release too, is one that a plugin asks for."""
    try:
        return SpecifierSet(wanted).contains(version, prereleases=True)
    except InvalidSpecifier:
        return False


def next_range(version: str = __version__) -> str:
    """Return the range that a plugin written against a version declares: this release, and those that only mend it."""
    major, minor = (int(part) for part in version.split(".")[:2])
    return f">={version},<{major}.{minor + 1}" if major == 0 else f">={version},<{major + 1}"
