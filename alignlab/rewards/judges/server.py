"""A judge behind a chat server: log-probs of the answer word where the server gives them, else the text is read."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from typing import Any, Literal

from pydantic import PositiveInt

from alignlab.rewards.calls import event_loop
from alignlab.rewards.judges.base import JudgeContext, JudgeRule, Question, Verdict
from alignlab.rewards.judges.client import ChatClient, Reply, ServerSettings
from alignlab.rewards.judges.prompts import Wording, load_wording


class ServerJudgeRule(ServerSettings, JudgeRule):
    """Any server that speaks the OpenAI chat API, through the official client."""

    name = "openai"
    template: str | None = None
    """A file that asks for a letter, with {conversation} or {prompt}, {first}, {second} and {question}."""
    rate_template: str | None = None
    """A file that asks for a digit, with {first}."""
    logprobs: Literal["auto", True, False] = "auto"
    """Ask for the log-probs of the answer; auto does without them where the server refuses."""
    max_tokens: PositiveInt = 4
    """Of a reply. A template that asks for reasons first wants more: then the last letter is what counts."""

    def wording(self) -> Wording:
        """Read the templates. Raises RecipeError."""
        return load_wording(self.template, self.rate_template)

    def load(self, context: JudgeContext) -> "ServerJudge":
        """Make the client; nothing is asked yet."""
        wording, client = self.wording(), self.client()
        identity = ["openai", *client.identity, self.max_tokens, str(self.logprobs), *wording.identity]
        return ServerJudge(self, client, wording, self.concurrency, identity)


@dataclass(frozen=True)
class ServerJudge:
    """A judge that is asked one question at a time, many at once."""

    settings: ServerJudgeRule
    client: ChatClient
    wording: Wording
    concurrency: int
    identity: list[Any]

    async def ask(self, question: Question) -> Verdict:
        """Answer one question."""
        reply = await self.client.complete(
            [{"role": "user", "content": self.wording.text(question)}],
            max_tokens=self.settings.max_tokens,
            logprobs=self.settings.logprobs,
        )
        worth = self.wording.words(question)
        value, sure = read_logprobs(reply, worth)
        facts = self.client.facts(reply)
        if self.settings.logprobs and not reply.top:
            self.client.say_no_logprobs()
        if value is None:
            value = read_text(reply.text, worth)
        else:
            facts["sure"] = sure
        return Verdict(value, reply.text, facts)

    def close(self) -> None:
        """Close the connections."""
        asyncio.run_coroutine_threadsafe(self.client.close(), event_loop()).result()


def read_logprobs(reply: Reply, worth: Mapping[str, float]) -> tuple[float | None, float]:
    """Return what the answer words are worth by their probabilities, and the probability of all of them.

    They are looked up where the last of them was said; where none was, before the first token.
    """
    places = [top for token, top in reply.top if token.strip() in worth] or [top for _, top in reply.top[:1]]
    if not places:
        return None, 0.0
    found: dict[str, float] = {}
    for token, logp in places[-1].items():
        if token.strip() in worth:
            found[token.strip()] = found.get(token.strip(), 0.0) + exp(logp)
    sure = sum(found.values())
    if not sure:
        return None, 0.0
    return sum(p * worth[word] for word, p in found.items()) / sure, min(sure, 1.0)


def read_text(text: str, worth: Mapping[str, float]) -> float | None:
    """Return what the text says, or None if it is not clear: a word alone, or after "answer" and the like."""
    words = "|".join(map(re.escape, worth))
    alone = re.fullmatch(rf"\W*(?:(?:answer|option|response|rating)\W*)?({words})\W*", text.strip(), re.IGNORECASE)
    said = re.findall(rf"\b(?:answer|option|response|choice|rating|better)\b(?:\s+is)?\W{{0,4}}({words})\b", text)
    found = alone[1].upper() if alone else said[-1] if said else None
    return None if found is None else worth[found]
