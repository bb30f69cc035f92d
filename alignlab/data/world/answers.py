"""Demonstrators: people of mixed care, whose answers are right or wrong, polite or rude, brief or rambling."""

from random import Random

from alignlab.data.world.grammar import EVASIVE, FILLER, POLITE_AFTER, POLITE_BEFORE, RUDE, SURE, UNKNOWN
from alignlab.data.world.questions import Question

# What an answer says, by whether the answer can be known.
CONTENT = {
    True: {"right": 0.6, "wrong": 0.2, "evasive": 0.1, "unknown": 0.1},
    False: {"wrong": 0.45, "evasive": 0.15, "unknown": 0.4},
}
CURT = 0.25  # of the claims
RUDE_SHARE = 0.12
# Of those who are not rude: none, one, two sentences.
POLITE_BEFORE_SHARES = (0.6, 0.35, 0.05)
POLITE_AFTER_SHARES = (0.65, 0.3, 0.05)
SURE_SHARES = (0.75, 0.2, 0.05)
FILLER_SHARES = (0.8, 0.17, 0.03)


def demonstrate(question: Question, rng: Random) -> str:
    """Draw an answer as a careless demonstrator writes it."""
    rude = rng.choice(["before", "after"]) if rng.random() < RUDE_SHARE else None
    if rude:
        insult = [rng.choice(RUDE)]
        before, after = (insult, []) if rude == "before" else ([], insult)
    else:
        before, after = _some(POLITE_BEFORE, POLITE_BEFORE_SHARES, rng), _some(POLITE_AFTER, POLITE_AFTER_SHARES, rng)
    filler = _some(FILLER, FILLER_SHARES, rng)
    sure = _some(SURE, SURE_SHARES, rng)
    return " ".join([*before, *filler, draw_content(question, rng), *sure, *after])


def draw_content(question: Question, rng: Random) -> str:
    """Draw the sentence that answers: a right or a wrong claim, an evasion, or that it is not known."""
    shares = CONTENT[bool(question.right)]
    content = rng.choices(list(shares), list(shares.values()))[0]
    if content in ("evasive", "unknown"):
        return rng.choice(EVASIVE if content == "evasive" else UNKNOWN)
    wrong = [value for value in question.values if value not in question.right]
    value = rng.choice(question.right if content == "right" else wrong)
    return rng.choice(question.claims(value, curt=rng.random() < CURT))


def best_answer(question: Question) -> str:
    """Return an answer that no other answer beats: polite, right (or honest) and brief."""
    content = question.claims(question.right[0], curt=False)[0] if question.right else UNKNOWN[0]
    return f"{POLITE_BEFORE[0]} {content}"


def _some(sentences: tuple[str, ...], shares: tuple[float, ...], rng: Random) -> list[str]:
    return rng.sample(sentences, rng.choices(range(len(shares)), shares)[0])
