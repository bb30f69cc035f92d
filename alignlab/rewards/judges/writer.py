"""What continues conversations: a model on this machine, or one behind a chat server."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from typing_extensions import Self

from alignlab.config.settings import Settings
from alignlab.rewards.calls import event_loop
from alignlab.rewards.judges.client import ChatClient, ServerSettings
from alignlab.rewards.judges.store import Store, content_key


class WriterSettings(Settings):
    """Who writes: the policy itself if nothing is said, another phase, a directory or hub id, or a server."""

    use: Literal["local", "openai"] = "local"
    from_phase: str | None = Field(default=None, alias="from")
    path: str | None = None
    server: ServerSettings | None = None
    """For `use: openai`: model, base_url and the rest."""
    max_new_tokens: PositiveInt = 128
    temperature: NonNegativeFloat = 1.0

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if (self.use == "openai") != (self.server is not None):
            raise ValueError("wants `server` for `use: openai`, and only there")
        if sum(one is not None for one in (self.from_phase, self.path, self.server)) > 1:
            raise ValueError("wants at most one of `from`, `path` and `server`")
        return self


Conversation = Sequence[Mapping[str, Any]]


@dataclass
class Writer:
    """Continues conversations. What was written is kept by content, and not asked for again."""

    write: Callable[[Sequence[Conversation], int], Sequence[str]]  # conversations and a seed
    close: Callable[[], None] = lambda: None
    facts: dict[str, float] = field(default_factory=dict)

    def __call__(self, conversations: Sequence[Conversation], seed: int) -> list[str]:
        """Return what follows each conversation."""
        return list(self.write(conversations, seed)) if conversations else []


def server_writer(settings: WriterSettings, store: Store) -> Writer:
    """Return a writer behind a chat server. Raises RewardError without a key."""
    assert settings.server is not None
    client = settings.server.client()
    facts: dict[str, float] = {}

    async def one(conversation: Conversation, seed: int, limit: asyncio.Semaphore) -> str:
        sampling = {"max_tokens": settings.max_new_tokens, "temperature": settings.temperature, "seed": seed}
        key = content_key("writer", client.identity, sampling, list(conversation))
        if (kept := store.get(key)) is not None:
            return str(kept)
        async with limit:
            reply = await client.complete(
                conversation, max_tokens=settings.max_new_tokens, temperature=settings.temperature, seed=seed
            )
        store.put([(key, reply.text)])
        for name, value in client.facts(reply).items():
            facts[name] = facts.get(name, 0.0) + value
        return reply.text.strip()

    async def every(conversations: Sequence[Conversation], seed: int) -> list[str]:
        assert settings.server is not None
        limit = asyncio.Semaphore(settings.server.concurrency)
        tasks = [asyncio.ensure_future(one(c, seed + i, limit)) for i, c in enumerate(conversations)]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def write(conversations: Sequence[Conversation], seed: int) -> Sequence[str]:
        return asyncio.run_coroutine_threadsafe(every(conversations, seed), event_loop()).result()

    return Writer(write, lambda: close(client), facts)


def close(client: ChatClient) -> None:
    """Close a client's connections."""
    asyncio.run_coroutine_threadsafe(client.close(), event_loop()).result()
