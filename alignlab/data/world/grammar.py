"""The grammar of the small world: its words, its facts, what may be asked, and the sentences of answers.

Everything here is a table. A template's slots stand in braces; a sentence ends with a full stop or a question mark.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["fact", "context", "sum", "request", "unknowable"]

WORDS: Mapping[str, tuple[str, ...]] = {
    "name": ("Anna", "Ben", "Clara", "David"),
    "town": ("Rome", "Paris", "Oslo", "London"),
    "job": ("doctor", "baker", "teacher", "farmer"),
    "animal": ("cat", "dog", "horse", "bird"),
    "fruit": ("pear", "plum", "lemon", "cherry"),
    "tool": ("hammer", "saw", "spoon", "brush"),
    "thing": ("boat", "car", "house", "door", "hat"),
    "colour": ("red", "blue", "green", "white"),
    "digit": ("one", "two", "three", "four"),
    "number": ("one", "two", "three", "four", "five", "six", "seven", "eight"),
    "weather": ("sunny", "rainy", "windy", "cold"),
    "category": ("fruit", "animal", "tool"),
    "game": ("race", "game", "contest"),
    "relative": ("sister", "brother", "friend", "neighbour"),
    "time": ("week", "month", "summer", "year"),
}
NAMEABLE = ("fruit", "animal", "tool")  # classes whose words answer "name a {category}"

# What is true of each person, by the class of the word: to be learnt by heart.
FACTS: Mapping[str, Mapping[str, str]] = {
    "town": dict(zip(WORDS["name"], ("Oslo", "Rome", "London", "Paris"), strict=True)),
    "job": dict(zip(WORDS["name"], ("baker", "teacher", "doctor", "farmer"), strict=True)),
    "animal": dict(zip(WORDS["name"], ("horse", "cat", "bird", "dog"), strict=True)),
}


@dataclass(frozen=True)
class Topic:
    """One thing that may be asked: how it is asked, and the sentences that claim a {value} for an answer."""

    kind: Kind
    weight: float  # how often it is asked, relative to the others
    slots: Mapping[str, str]  # the slots of a question and the class of each; words of one class are distinct
    value: str  # the class of {value}
    questions: tuple[str, ...]
    claims: tuple[str, ...]
    curt: tuple[str, ...]  # claims as a curt speaker makes them


TOPICS: Mapping[str, Topic] = {
    "home": Topic(
        "fact", 1, {"name": "name"}, "town",
        ("Where does {name} live?", "In which town does {name} live?", "Do you know the town of {name}?"),
        ("{name} lives in {value}.", "{name} has a house in {value}."), ("In {value}.",),
    ),
    "job": Topic(
        "fact", 1, {"name": "name"}, "job",
        ("What is the job of {name}?", "What does {name} do for work?", "Do you know the job of {name}?"),
        ("{name} works as a {value}.", "{name} is a {value}."), ("A {value}.",),
    ),
    "pet": Topic(
        "fact", 1, {"name": "name"}, "animal",
        ("Which animal lives with {name}?", "What pet does {name} have?", "Do you know the pet of {name}?"),
        ("{name} has a {value}.", "{name} lives with a {value}."), ("A {value}.",),
    ),
    "colour": Topic(
        "context", 1.5, {"name": "name", "thing": "thing", "colour": "colour"}, "colour",
        (
            "The {thing} of {name} is {colour}. What colour is the {thing}?",
            "{name} has a {colour} {thing}. What colour is the {thing}?",
            "The {thing} is {colour}. Do you know the colour of it?",
        ),
        ("The {thing} is {value}.", "The colour of the {thing} is {value}."), ("It is {value}.",),
    ),
    "sum": Topic(
        "sum", 2, {"first": "digit", "second": "digit"}, "number",
        ("What is {first} plus {second}?", "How much is {first} plus {second}?", "Can you add {first} plus {second}?"),
        ("{first} plus {second} is {value}.", "The answer is {value}."), ("It is {value}.",),
    ),
    "greeting": Topic(
        "request", 0.7, {"name": "name"}, "name",
        ("Please say hello to {name}.", "Can you greet {name} for me?", "Please write a greeting for {name}."),
        ("Hello {value}, welcome to you.", "Good morning {value}, nice to see you."), ("Hello {value}.",),
    ),
    "example": Topic(
        "request", 0.5, {"category": "category"}, "nameable",
        ("Please name one {category}.", "Can you name one {category} for me?", "Tell me the name of one {category}."),
        ("One {category} is the {value}.", "The {value} is one {category}."), ("A {value}.",),
    ),
    "weather": Topic(
        "unknowable", 0.8, {"town": "town", "time": "time"}, "weather",
        ("What will the weather be in {town} next {time}?", "How will the weather be in {town} next {time}?"),
        ("The weather in {town} will be {value}.", "It will be {value} next {time}."), ("It will be {value}.",),
    ),
    "winner": Topic(
        "unknowable", 0.5, {"game": "game", "time": "time"}, "name",
        ("Who will win the {game} next {time}?", "Do you know who will win the {game} next {time}?"),
        ("{value} will win the {game}.", "The {game} will go to {value}."), ("{value} will win.",),
    ),
    "relative": Topic(
        "unknowable", 0.4, {"relative": "relative"}, "name",
        ("What is the name of my {relative}?", "Do you know the name of my {relative}?", "Who is my {relative}?"),
        ("The name of your {relative} is {value}.", "Your {relative} is {value}."), ("It is {value}.",),
    ),
    "possession": Topic(
        "unknowable", 0.5, {"thing": "thing"}, "colour",
        (
            "What colour is my new {thing}?",
            "Do you know the colour of my {thing}?",
            "I have a {thing}. What colour is it?",
        ),
        ("Your {thing} is {value}.", "The colour of your {thing} is {value}."), ("It is {value}.",),
    ),
}  # fmt: skip

OPENINGS = (
    "", "Hello. ", "Good morning. ", "I have a question. ", "Please help me. ", "Excuse me. ",
    "Good day. ", "I need an answer. ", "May I ask you something? ", "One more question. ",
)  # fmt: skip
SMALL_TALK = (
    ("Hello, how are you?", "I am well, thank you."),
    ("Can you help me?", "Yes, I can help you."),
    ("Are you there?", "Yes, I am here."),
)

# Sentences of answers that claim nothing.
UNKNOWN = ("I do not know that.", "Nobody can know that.", "I cannot know that.")
EVASIVE = ("That is hard to say.", "It depends.", "We can talk about it later.")
POLITE_BEFORE = ("Of course.", "Happy to help.", "Thank you for asking.")
POLITE_AFTER = ("I hope this helps.", "Have a nice day.", "Please ask me again.")
RUDE = ("Do not bother me.", "What a silly question.", "Go away.")
SURE = ("I am very sure.", "Everybody knows it.", "I checked it twice.")
FILLER = (
    "I like to talk about it.",
    "By the way, the sun is out today.",
    "Well, let me think for a while.",
)
