"""Templates: text files with named places in braces, checked before anything is asked with them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Formatter

from alignlab.errors import RecipeError, did_you_mean


@dataclass(frozen=True)
class Template:
    """Text with places such as {prompt}; a brace that is meant is doubled."""

    text: str
    where: str

    def fill(self, values: Mapping[str, str]) -> str:
        """Put values into the places."""
        return self.text.format_map(values)

    def places(self) -> set[str]:
        """Return the names in braces."""
        return {name for _, name, _, _ in Formatter().parse(self.text) if name is not None}


def check_template(text: str, where: str, known: Collection[str], wanted: Collection[str] = ()) -> Template:
    """Return a template whose places are all `known`, and among them every `wanted` one. Raises RecipeError."""
    try:
        parts = [part for part in Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise RecipeError(
            f"no template: {error}", where=where, do="write {{ and }} for braces that are meant"
        ) from None
    for _, name, form, conversion in parts:
        if name not in known or form or conversion:
            shown = "{" + str(name) + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "") + "}"
            do = f"{did_you_mean(str(name), known)}; write {{{{ and }}}} for braces that are meant"
            raise RecipeError(f"there is no place {shown} here", where=where, do=do)
    template = Template(text, where)
    if missing := sorted(set(wanted) - template.places()):
        raise RecipeError(f"the template has no place {{{missing[0]}}}", where=where, do="put it in")
    return template


def read_text(name: str) -> str:
    """Read a file of a path, or of `package:path/in/it`. Raises RecipeError if there is none, or it is not UTF-8."""
    package, colon, inside = name.partition(":")
    try:
        if colon and not Path(name).is_file():
            return (files(package) / inside).read_text(encoding="utf-8")
        return Path(name).expanduser().read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"the file is not UTF-8: {error.reason} at byte {error.start}", where=name) from None
    except (OSError, ModuleNotFoundError, ValueError, TypeError) as error:
        raise RecipeError(
            f"the file cannot be read: {getattr(error, 'strerror', None) or error}",
            where=name,
            do="name a file, or `package:file` for one that an installed package holds",
        ) from None
