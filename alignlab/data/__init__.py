"""The data stage: sources of rows, the row check, tokenizing, the held-out split and mixtures."""

from alignlab.data.adapters import ADAPTERS
from alignlab.data.chat import DEFAULT_TEMPLATE
from alignlab.data.check import Checked, check_rows
from alignlab.data.examples import corpus
from alignlab.data.load import Split, load_split, prompt_record
from alignlab.data.rows import Prompts, Rows
from alignlab.data.sources import Changed, DataContext, DataSource, MadeSource, Mixed, RowProblem, SourceRow
from alignlab.data.split import epoch_order
from alignlab.data.summary import Note, RowSummary, SourceSummary
from alignlab.data.tokenize import stop_tokens
from alignlab.data.world import World

SOURCES: tuple[DataSource, ...] = (Rows(), Prompts(), *ADAPTERS, World())
"""What alignlab itself brings."""

__all__ = [
    "DEFAULT_TEMPLATE",
    "SOURCES",
    "Changed",
    "Checked",
    "DataContext",
    "DataSource",
    "MadeSource",
    "Mixed",
    "Note",
    "Prompts",
    "RowProblem",
    "RowSummary",
    "Rows",
    "SourceRow",
    "SourceSummary",
    "Split",
    "World",
    "check_rows",
    "corpus",
    "epoch_order",
    "load_split",
    "prompt_record",
    "stop_tokens",
]
