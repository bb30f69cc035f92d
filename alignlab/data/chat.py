"""Render conversations by the tokenizer's chat template, and know which part of the text the assistant says."""

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from alignlab.data.sources import RowProblem
from alignlab.data.turns import Message

# For a tokenizer without a template. A header stands on a line of its own, so that an answer begins without a space.
DEFAULT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}Assistant:\n{{ message['content'] + eos_token }}"
    "{% else %}"
    "{{ 'Human' if message['role'] == 'user' else message['role'] | capitalize }}:\n{{ message['content'] }}"
    "{% endif %}"
    "{% if not loop.last or add_generation_prompt %}{{ '\n\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)


@dataclass(frozen=True)
class Segment:
    """A piece of text that is tokenized by itself; `acted` where the assistant says it."""

    text: str
    acted: bool


def render(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message], *, answer_next: bool) -> str:
    """Return a conversation as text; with `answer_next`, up to where the assistant's answer begins.

    Raises RowProblem if the template refuses the conversation (its roles, their order).
    """
    template = None if tokenizer.chat_template else DEFAULT_TEMPLATE
    try:
        text = tokenizer.apply_chat_template(
            list(turns), tokenize=False, add_generation_prompt=answer_next, chat_template=template
        )
    except (TemplateError, TypeError, IndexError) as error:
        raise RowProblem(f"{_template_name(tokenizer)} refuses this conversation: {error}") from error
    return str(text)


def render_answer(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[Message], prompt_text: str, answer: Sequence[Message]
) -> list[Segment]:
    """Return what follows a prompt's text: the assistant's turns, acted, and what stands between them.

    Each turn is cut out by rendering the conversation up to its start and up to its end. Every piece is tokenized by
    itself, so a prefix of the text is a prefix of the tokens, and the prompt's tokens are those that generation sees.
    Raises RowProblem if the template rewrites earlier turns, so that a shorter conversation's text is no prefix of a
    longer one's.
    """
    segments: list[Segment] = []
    done = prompt_text
    turns = [*prompt, *answer]
    for i in range(len(prompt), len(turns)):
        if turns[i]["role"] != "assistant":
            continue
        start = prompt_text if i == len(prompt) else render(tokenizer, turns[:i], answer_next=True)
        end = render(tokenizer, turns[: i + 1], answer_next=False)
        if not (start.startswith(done) and end.startswith(start)):
            raise RowProblem(
                f"{_template_name(tokenizer)} renders the first {i} turns otherwise when turn {i + 1} follows, so what "
                "the assistant says cannot be told from the rest: use another template, or rows with one answer each"
            )
        segments += [Segment(start[len(done) :], False)] if len(start) > len(done) else []
        segments.append(Segment(end[len(start) :], True))
        done = end
    return segments


def _template_name(tokenizer: PreTrainedTokenizerBase) -> str:
    if not tokenizer.chat_template:
        return "alignlab's default chat template"
    return f"the chat template of {tokenizer.name_or_path or 'the tokenizer'}"
