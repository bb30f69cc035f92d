"""A chat server (the OpenAI API) that may be slow, busy or broken: ask until it answers, and count what it took."""

import asyncio
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, NoReturn

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from alignlab.config.settings import Settings
from alignlab.errors import PluginError, RewardError, did_you_mean
from alignlab.models.source import say_once

HOSTED = "https://api.openai.com/v1"
LONGEST_WAIT = 60.0  # seconds between two tries, if the server names no other


class ServerSettings(Settings):
    """Where the server is, and how it is asked. The key comes from the environment and is written nowhere."""

    model: str
    """What the server calls it."""
    base_url: str | None = None
    """Of a server that speaks the OpenAI API, such as http://localhost:8000/v1; the hosted one if it is not given."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key. A server of your own may want none."""
    concurrency: PositiveInt = 16
    """Questions under way at once."""
    timeout: PositiveFloat = 60.0
    """Seconds to wait for one reply."""
    retries: NonNegativeInt = 6
    """Tries after the first, for one question. The waits between them double from `backoff`, up to a minute."""
    backoff: PositiveFloat = 0.5
    """Seconds before the second try; a Retry-After of the server comes first."""
    price: tuple[NonNegativeFloat, NonNegativeFloat] | None = None
    """What a million prompt tokens and a million reply tokens cost."""
    extra_body: dict[str, Any] = Field(default={})
    """More fields for every request, of the server's own."""

    @field_validator("base_url")
    @classmethod
    def _no_secret(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("wants an address such as http://localhost:8000/v1")
        if url is not None and "@" in url:
            raise ValueError("holds a password, which would be written to the run directory: put it into the key")
        return url

    def check(self) -> str:
        """Return the key. Raises RewardError without one for the hosted server, PluginError without the package."""
        if find_spec("openai") is None:
            do = "pip install 'alignlab[openai]'"
            raise PluginError("this needs the package `openai`, which is not installed", do=do)
        key = os.environ.get(self.api_key_env)
        if not key and self.base_url is None:
            raise RewardError(
                f"there is no key: the environment variable {self.api_key_env} is not set",
                do=f"export {self.api_key_env}=..., or set `base_url` to a server of your own",
            )
        return key or ""

    def client(self) -> "ChatClient":
        """Return a client. Raises what `check` raises."""
        key = self.check()
        import openai

        url = self.base_url or HOSTED
        made = openai.AsyncOpenAI(api_key=key or "none", base_url=url, timeout=self.timeout, max_retries=0)
        return ChatClient(self, made, url, key)


@dataclass(frozen=True)
class Reply:
    """What the server said."""

    text: str
    top: Sequence[tuple[str, Mapping[str, float]]]  # each token, and the log-probs of the likeliest; () if not given
    prompt_tokens: int
    reply_tokens: int
    tries: int
    finished: bool  # it ended by itself


class ChatClient:
    """Asks one model of one server."""

    def __init__(self, settings: ServerSettings, client: Any, url: str, key: str) -> None:
        """Keep what is asked with."""
        self.settings, self.client, self.url, self._key = settings, client, url, key
        self.without: set[str] = set()  # fields that this server turned out not to know
        self._open_at = 0.0  # nothing is asked before: the server said so to one of us

    @property
    def identity(self) -> list[Any]:
        """What a reply depends on."""
        return [self.url, self.settings.model, self.settings.extra_body]

    def facts(self, reply: Reply) -> dict[str, float]:
        """Return a reply's numbers."""
        found = {
            "prompt_tokens": float(reply.prompt_tokens),
            "reply_tokens": float(reply.reply_tokens),
            "retries": reply.tries - 1.0,
        }
        if self.settings.price is not None:
            tokens = (reply.prompt_tokens, reply.reply_tokens)
            found["cost"] = sum(n * price / 1e6 for n, price in zip(tokens, self.settings.price, strict=True))
        return found

    async def complete(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        logprobs: Literal["auto", True, False] = False,
    ) -> Reply:
        """Return the reply to a conversation. Raises RewardError when the server says no, or nothing for too long."""
        import openai

        asked: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
        if seed is not None:
            asked["seed"] = seed
        if logprobs:
            asked |= {"logprobs": True, "top_logprobs": 20}
        wait = self.settings.backoff
        last: Exception | None = None
        tries = 0
        while tries <= self.settings.retries:
            await asyncio.sleep(max(self._open_at - time.monotonic(), 0.0))
            given = {name: value for name, value in asked.items() if name not in self.without}
            if "max_tokens" in self.without:
                given["max_completion_tokens"] = max_tokens
            try:
                # Not chat.completions.create, which checks and builds every field: a third of the time of a request.
                body = {"model": self.settings.model, "messages": list(messages), **given, **self.settings.extra_body}
                response = await self.client.post("/chat/completions", cast_to=dict[str, Any], body=body)
                return _read(response, tries + 1)
            except openai.APIStatusError as error:
                if error.status_code in (400, 422) and self._drop(_words(error), given, logprobs):
                    continue  # the same question in words that this server knows: no try is lost
                if error.status_code not in (408, 409, 425, 429) and error.status_code < 500:
                    await self._refuse(error, messages)
                if getattr(error, "code", None) == "insufficient_quota":
                    await self._refuse(error, messages)
                last = error
                pause = _retry_after(error)
                if pause is not None:
                    self._open_at = max(self._open_at, time.monotonic() + pause)
                    wait = max(wait, pause)
            except (openai.APIError, ValueError, _Unusable) as error:  # cut, stalled, or no JSON of the API
                last = error
            tries += 1
            if tries <= self.settings.retries:
                await asyncio.sleep(wait * (1 + 0.25 * random.random()))
                wait = min(2 * wait, max(LONGEST_WAIT, wait))
        assert last is not None
        raise RewardError(
            f"no reply after {tries} tries: {self._said(last)}",
            where=self.url,
            do="see whether the server runs, and run again: what was answered is kept, and is not asked again",
        ) from last

    def _drop(self, said: str, given: Mapping[str, Any], logprobs: Literal["auto", True, False]) -> bool:
        """Leave out a field that the server refuses; return whether there was one."""
        if "max_completion_tokens" in said and "max_tokens" in given:
            fields = {"max_tokens"}
        elif "logprobs" in said and "logprobs" in given and logprobs == "auto":
            self.say_no_logprobs()
            fields = {"logprobs", "top_logprobs"}
        else:
            fields = {name for name in ("seed", "temperature") if f"'{name}'" in said and name in given}
        self.without |= fields
        return bool(fields)

    def say_no_logprobs(self) -> None:
        """Say once that a verdict is less than it could be."""
        say_once(f"{self.url} gives no log-probs: the judge's text is read instead, which knows only yes and no")

    async def _refuse(self, error: Any, messages: Sequence[Mapping[str, Any]]) -> NoReturn:
        """Raise for what asking again does not mend."""
        said = self._said(error)
        what, do = f"the server refuses (HTTP {error.status_code}): {said}", "mend the recipe, or the server"
        if error.status_code in (401, 403):
            what, do = f"the server does not take the key: {said}", f"set {self.settings.api_key_env} to a key of it"
        elif error.status_code == 404 or any(words in said for words in ("does not exist", "is pinned to")):
            what = f"the server does not know the model {self.settings.model!r}: {said}"
            do = did_you_mean(self.settings.model, await self._models())
        elif any(word in said.lower() for word in ("context", "too long", "maximum length", "max_model_len")):
            num = sum(len(str(message["content"])) for message in messages)
            what = f"a question of {num:,} characters is too long for the model: {said}"
            do = "judge shorter answers (`max_new_tokens`, `max_length`), or take a model with more context"
        elif getattr(error, "code", None) == "insufficient_quota":
            what, do = f"there is no money left: {said}", "top it up and run again: what was answered is kept"
        raise RewardError(what, where=self.url, do=do) from error

    async def _models(self) -> list[str]:
        try:
            return [model.id async for model in self.client.models.list()]
        except Exception:  # a hint, not more
            return []

    def _said(self, error: Exception) -> str:
        """Return an error's words without the key."""
        cause = error.__cause__
        said = _words(error)
        if cause is not None and str(cause) and str(cause) not in said:
            said = f"{said} ({cause})"
        said = " ".join(said.split())[:300]
        return said.replace(self._key, "***") if self._key else said

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()


class _Unusable(Exception):  # noqa: N818 - the reason for another try
    """A reply without what a reply has."""


def _read(response: Any, tries: int) -> Reply:
    """Return what is in a response. Raises _Unusable for one without choices, or that is no JSON of the API."""
    choices = response.get("choices") if isinstance(response, dict) else None
    if not isinstance(choices, list):
        raise _Unusable(f"the reply is not JSON of the API: {response!r:.80}")
    message = choices[0].get("message") if choices and isinstance(choices[0], dict) else None
    if not isinstance(message, dict):
        raise _Unusable("the reply has no choices")
    choice = choices[0]
    usage = response.get("usage") or {}
    listed = (choice.get("logprobs") or {}).get("content") or []
    try:
        top = tuple(
            (t["token"], {o["token"]: float(o["logprob"]) for o in t.get("top_logprobs") or []}) for t in listed
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise _Unusable(f"the log-probs of the reply are not those of the API: {listed!r:.80}") from error
    return Reply(
        text=str(message.get("content") or ""),
        top=top,
        prompt_tokens=usage.get("prompt_tokens") or 0,
        reply_tokens=usage.get("completion_tokens") or 0,
        tries=tries,
        finished=choice.get("finish_reason") != "length",
    )


def _words(error: Exception) -> str:
    """Return what an error says; of a server that is not in the API's form, what it wrote."""
    said = str(getattr(error, "message", "") or error) or type(error).__name__
    response = getattr(error, "response", None)
    return f"{said}: {response.text}" if response is not None and said.startswith("Error code") else said


def _retry_after(error: Any) -> float | None:
    """Return the seconds that the server asks for."""
    headers = error.response.headers
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            return max(float(headers[name]) * scale, 0.0)
        except (KeyError, ValueError):
            continue
    return None
