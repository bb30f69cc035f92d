"""Constitutional AI for alignlab (Bai et al., 2022, arXiv 2212.08073): critiques and revisions under principles."""

from collections.abc import Iterable

from alignlab import MadeSource, hookimpl
from alignlab_cai.revision import CritiqueRevision


@hookimpl
def register_data() -> Iterable[MadeSource]:
    """Register `critique_revision`."""
    return [CritiqueRevision()]
