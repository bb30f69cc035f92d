"""Questions: drawn from the grammar, and found again in the text of a prompt."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from random import Random

from alignlab.data.world.grammar import FACTS, NAMEABLE, OPENINGS, SMALL_TALK, TOPICS, WORDS, Topic
from alignlab.errors import DataError

SMALL_TALK_SHARE = 0.125  # prompts of two turns
Message = dict[str, str]


@dataclass(frozen=True)
class Question:
    """What a prompt asks: a topic, and the words in the topic's slots."""

    topic: Topic
    slots: Mapping[str, str]

    @property
    def values(self) -> tuple[str, ...]:
        """All words that could be claimed for an answer."""
        return words(self.topic.value)

    @property
    def right(self) -> tuple[str, ...]:
        """The words of which each is a right answer; none where it cannot be known."""
        topic, slots = self.topic, self.slots
        match topic.kind:
            case "fact":
                return (FACTS[topic.value][slots["name"]],)
            case "context":
                return (slots[topic.value],)
            case "sum":
                number = WORDS["number"].index
                return (WORDS["number"][number(slots["first"]) + number(slots["second"]) + 1],)
            case "request":
                return (slots["name"],) if "name" in slots else WORDS[slots["category"]]
            case "unknowable":
                return ()

    def claims(self, value: str, *, curt: bool) -> list[str]:
        """Return the sentences that claim this value, or the curt ones."""
        templates = self.topic.curt if curt else self.topic.claims
        return [fill(template, {**self.slots, "value": value}) for template in templates]


def words(word_class: str) -> tuple[str, ...]:
    """Return the words of a class."""
    return sum((WORDS[name] for name in NAMEABLE), ()) if word_class == "nameable" else WORDS[word_class]


def fill(template: str, slots: Mapping[str, str]) -> str:
    """Put words into the slots, and a capital letter at the front."""
    text = template.format_map(slots)
    return text[0].upper() + text[1:]


def draw_question(rng: Random) -> tuple[Question, str]:
    """Draw a question and one of the ways to ask it."""
    topic = rng.choices(list(TOPICS.values()), [topic.weight for topic in TOPICS.values()])[0]
    slots: dict[str, str] = {}
    for slot, word_class in topic.slots.items():
        slots[slot] = rng.choice([word for word in WORDS[word_class] if word not in slots.values()])
    return Question(topic, slots), fill(rng.choice(topic.questions), slots)


def draw_prompts(seed: int, num_prompts: int) -> list[list[Message]]:
    """Return distinct prompts as conversations whose last turn is the user's question."""
    rng = Random(f"{seed} prompts")
    prompts: dict[tuple[str, ...], None] = {}
    while len(prompts) < num_prompts:
        _, text = draw_question(rng)
        before = rng.choice(SMALL_TALK) if rng.random() < SMALL_TALK_SHARE else ()
        prompts[(*before, rng.choice(OPENINGS) + text)] = None
    return [
        [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)] for turns in prompts
    ]


@cache
def parse_question(prompt: str) -> Question:
    """Find the question in a prompt's text; whatever stands around it does not matter. Raises DataError."""
    for topic, pattern in _patterns():
        if found := pattern.search(prompt):
            return Question(topic, {slot: _spelling(word) for slot, word in found.groupdict().items()})
    raise DataError(
        f"the small world has no question like {prompt!r}",
        do="its true reward is only known for prompts of `source: world`; take another reward, or another source",
    )


@cache
def _patterns() -> tuple[tuple[Topic, re.Pattern[str]], ...]:
    pairs = [(topic, question) for topic in TOPICS.values() for question in topic.questions]
    longest_first = sorted(pairs, key=lambda pair: -len(pair[1]))  # "..., what colour is it" before its own endings
    return tuple((topic, _pattern(topic, question)) for topic, question in longest_first)


def _pattern(topic: Topic, question: str) -> re.Pattern[str]:
    seen: set[str] = set()

    def slot(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>{'|'.join(WORDS[topic.slots[name]])})"

    escaped = re.escape(question).replace(r"\{", "{").replace(r"\}", "}")
    return re.compile(r"\b" + re.sub(r"\{(\w+)\}", slot, escaped), re.IGNORECASE)


def _spelling(word: str) -> str:
    return next(known for group in WORDS.values() for known in group if known.lower() == word.lower())


def all_claims() -> Iterator[str]:
    """Yield every sentence that claims something, of every question and value."""
    for topic in TOPICS.values():
        for template in (*topic.claims, *topic.curt):
            named = [slot for slot in topic.slots if f"{{{slot}}}" in template]
            for chosen in product(*(words(topic.slots[slot]) for slot in named), words(topic.value)):
                yield fill(template, dict(zip((*named, "value"), chosen, strict=True)))
