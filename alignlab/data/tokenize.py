"""Turn checked rows into tokens: Sample objects, with `acted` on what the policy says."""

from collections.abc import Callable, Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from alignlab.batch import Sample
from alignlab.data.chat import Segment, render, render_answer
from alignlab.data.example import Example
from alignlab.data.sources import RowProblem
from alignlab.data.turns import Turns

Samples = dict[str, Sample]
STEP_END = "\n"  # what a process reward model reads after a step, and scores it at
NUM_CLOSING = 4  # a template's end-of-turn token is looked for among so many last tokens of a turn


def tokenize(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> list[Samples | RowProblem]:
    """Return the samples of each row (`prompt`, and the prompt followed by each answer), or why it has none.

    A text prompt begins with BOS, if the tokenizer has one, and an answer to it ends with EOS. Of a conversation the
    template decides both; EOS is added only if no special token ends the assistant's last turn. A row of steps has one
    sample `completion`: the prompt, each step with STEP_END after it, and EOS; `acted` is True on STEP_END's last token
    only, where the step is scored.
    """
    plans = [_plan(example, tokenizer) for example in examples]
    encoder = Encoder(tokenizer)
    encoder.add(plan for plan in plans if isinstance(plan, Plan))
    return [plan if isinstance(plan, RowProblem) else encoder.samples(plan) for plan in plans]


class Plan:
    """The pieces of text that one row is tokenized from."""

    def __init__(self, prompt: str, answers: dict[str, list[Segment]], chat: bool, steps: bool = False) -> None:
        """Keep the pieces; those of a conversation hold their special tokens."""
        self.prompt, self.answers, self.chat, self.steps = prompt, answers, chat, steps


def _plan(example: Example, tokenizer: PreTrainedTokenizerBase) -> Plan | RowProblem:
    prompt = example.prompt
    if example.steps:
        return _plan_steps(prompt or "", example.steps, tokenizer)
    if not isinstance(prompt, list) and not any(isinstance(a, list) for a in example.answers.values()):
        said = {name: [Segment(str(answer), True)] for name, answer in example.answers.items()}
        return Plan(str(prompt or ""), said, chat=False)
    turns = prompt if isinstance(prompt, list) else []
    try:
        text = render(tokenizer, turns, answer_next=True)
        rendered = {
            name: render_answer(tokenizer, turns, text, answer)
            for name, answer in example.answers.items()
            if isinstance(answer, list)
        }
    except RowProblem as problem:
        return problem
    return Plan(text, rendered, chat=True)


def _plan_steps(prompt: str | Turns, steps: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Plan | RowProblem:
    try:
        text = prompt if isinstance(prompt, str) else render(tokenizer, prompt, answer_next=True)
    except RowProblem as problem:
        return problem
    pieces = [piece for step in steps for piece in (Segment(step, False), Segment(STEP_END, True))]
    return Plan(text, {"completion": pieces}, chat=isinstance(prompt, list), steps=True)


class Encoder:
    """Encodes every distinct piece of text once, and puts rows together from the tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Find out how the tokenizer treats a piece that does not begin the text."""
        self.tokenizer = tokenizer
        self.eos = tokenizer.eos_token_id
        self.bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        added = tokenizer.added_tokens_decoder.items()
        self.special = {*tokenizer.all_special_ids, *(i for i, token in added if token.special)}
        self.first: dict[str, list[int]] = {}
        self.inside: dict[str, list[int]] = {}
        # Some tokenizers (SentencePiece's) put a space before the first word of whatever they are given: a piece from
        # the middle is encoded after a line break, which is then taken away.
        newline, alone, after = encode_all(tokenizer, ["\n", "a", "\na"])
        self.newline = newline if after[: len(newline)] == newline and after[len(newline) :] != alone else None

    def add(self, plans: Iterable[Plan]) -> None:
        """Encode the pieces of all rows, in two calls."""
        first: dict[str, None] = {}  # a set that keeps its order
        inside: dict[str, None] = {}
        for plan in plans:
            first[plan.prompt] = None
            for segments in plan.answers.values():
                where = inside if plan.prompt else first
                where[segments[0].text] = None
                inside |= dict.fromkeys(segment.text for segment in segments[1:])
        self.first = dict(zip(first, encode_all(self.tokenizer, first), strict=True))
        self.inside = dict(zip(inside, self._encode_inside(list(inside)), strict=True))

    def _encode_inside(self, texts: list[str]) -> list[list[int]]:
        if self.newline is None:
            return encode_all(self.tokenizer, texts)
        cut = len(self.newline)
        found = encode_all(self.tokenizer, ["\n" + text for text in texts])
        return [
            tokens[cut:] if tokens[:cut] == self.newline else encode_all(self.tokenizer, [text])[0]
            for text, tokens in zip(texts, found, strict=True)
        ]

    def samples(self, plan: Plan) -> Samples:
        """Put one row together."""
        prompt = [*([] if plan.chat else self.bos), *self.first[plan.prompt]]
        made = {"prompt": Sample(tuple(prompt), (False,) * len(prompt))}
        for name, segments in plan.answers.items():
            if plan.steps:
                made[name] = self._steps(plan, prompt)
                continue
            tokens, acted = list(prompt), [False] * len(prompt)
            for number, segment in enumerate(segments):
                piece = (self.inside if plan.prompt or number else self.first)[segment.text]
                num_said = self.num_said(piece) if segment.acted and plan.chat else len(piece)
                if number == len(segments) - 1:
                    ends = self.special if plan.chat else {self.eos}
                    piece = piece[:num_said] if num_said and piece[num_said - 1] in ends else [*piece, self.eos]
                    num_said = len(piece)
                tokens += piece
                acted += [segment.acted and i < num_said for i in range(len(piece))]
            made[name] = Sample(tuple(tokens), tuple(acted))
        return made

    def _steps(self, plan: Plan, prompt: Sequence[int]) -> Sample:
        """Put the steps of an answer after its prompt, each scored where it ends."""
        tokens, acted = list(prompt), [False] * len(prompt)
        for number, segment in enumerate(plan.answers["completion"]):
            piece = (self.inside if plan.prompt or number else self.first)[segment.text]
            tokens += piece
            acted += [segment.acted and i == len(piece) - 1 for i in range(len(piece))]
        # EOS, so that there is a token after the last step: the value before it is the last step's score.
        return Sample((*tokens, int(self.eos)), (*acted, False))

    def num_said(self, piece: list[int]) -> int:
        """Return how many tokens of an assistant's turn the model says: up to the special token that ends it.

        What a template puts after that token (a line break, mostly) is never generated.
        """
        for i in range(len(piece) - 1, max(len(piece) - 1 - NUM_CLOSING, -1), -1):
            if piece[i] in self.special:
                rest = piece[i + 1 :]
                closed = not rest or not str(self.tokenizer.decode(rest)).strip()
                return i + 1 if closed else len(piece)
        return len(piece)


def stop_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end an answer: EOS, and what the chat template ends the assistant's turn with."""
    turns = [{"role": "user", "content": "a"}]
    example = Example("?", {}, turns, {"completion": [{"role": "assistant", "content": "b"}]})
    found = tokenize([example], tokenizer)[0]
    ends = set() if isinstance(found, RowProblem) else {found["completion"].tokens[-1]}
    return frozenset(ends | {int(tokenizer.eos_token_id)})


def ends_turns(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the chat template ends the assistant's turn with a special token."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    tokens = encode_all(tokenizer, [render(tokenizer, turns, answer_next=False)])[0]
    encoder = Encoder(tokenizer)
    return tokens[encoder.num_said(tokens) - 1] in encoder.special


def encode_all(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> list[list[int]]:
    """Encode texts without adding special tokens."""
    given = list(texts)
    if not given:
        return []
    encode: Callable[..., dict[str, list[list[int]]]] = tokenizer
    return encode(given, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
