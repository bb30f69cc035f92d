"""Measure judging: a chat server of fixed latency kept busy, and a local judge in batches against one at a time.

    .venv/bin/python benchmarks/judges.py [--pairs 1000] [--concurrency 16] [--latency 0.05]

Writes benchmarks/results/judges.json. The server runs in a process of its own, and answers any number at once.
"""

import argparse
import asyncio
import json
import multiprocessing
import platform
import resource
import tempfile
import time
from pathlib import Path

import torch

from alignlab.config.recipe import DataSettings, NewModelSettings
from alignlab.data import Mixed, World, corpus
from alignlab.data.world import WorldSettings
from alignlab.models import new_model
from alignlab.rewards.judges import Asked, JudgeContext, LocalJudgeRule, Pair, Panel, Question, ServerJudgeRule, Store

RESULTS = Path(__file__).parent / "results" / "judges.json"
BODY = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "A"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
    }
).encode()


def serve(port, latency):
    async def answer(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line
                )
                await reader.readexactly(length)
                await asyncio.sleep(latency)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
                )
                writer.write(BODY)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    asyncio.run(main())


def memory():
    """Return the most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_server(num_pairs, concurrency, latency):
    port = multiprocessing.Value("i", 0)
    process = multiprocessing.Process(target=serve, args=(port, latency), daemon=True)
    process.start()
    while not port.value:
        time.sleep(0.05)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            rule = ServerJudgeRule(
                model="m", base_url=f"http://127.0.0.1:{port.value}/v1", concurrency=concurrency, logprobs=False
            )
            judge = Asked("m", rule.load(JudgeContext()), Store(Path(scratch) / "replies.sqlite"))
            panel = Panel([judge], kept=Path(scratch) / "judgements.jsonl")
            list(panel.compare([Pair("warm", str(i), "up") for i in range(concurrency)]))
            before, began, busy = memory(), time.perf_counter(), time.process_time()
            list(panel.compare([Pair(f"question {i}", "an answer " * 20, "another " * 20) for i in range(num_pairs)]))
            seconds, after, busy = time.perf_counter() - began, memory(), time.process_time() - busy
            panel.close()
    finally:
        process.terminate()
    rate, ideal = 2 * num_pairs / seconds, concurrency / latency
    return {
        "questions": 2 * num_pairs,
        "seconds": seconds,
        "rate": rate,
        "ideal": ideal,
        "share": rate / ideal,
        "client_cpu_seconds": busy,
        "memory_growth_mib": after - before,
    }


def timed(call):
    """Return the seconds of a call, those of the process's own, and what it returns."""
    began, busy = time.perf_counter(), time.process_time()
    found = call()
    return (time.perf_counter() - began, time.process_time() - busy), found


def measure_local(num_questions):
    with tempfile.TemporaryDirectory() as scratch:
        data = Mixed(World(), WorldSettings(kind="demonstrations", num_rows=2000), DataSettings(source="world"))
        settings = NewModelSettings(hidden_size=128, num_layers=2, num_heads=4, vocab_size=600, context_length=512)
        new_model(settings, corpus([data]), Path(scratch) / "model", seed=0)
        rule = LocalJudgeRule(path=str(Path(scratch) / "model"), template="alignlab.data.world:compare.txt")
        judge = rule.load(JudgeContext())
        rows = [row for _, row in World().load(WorldSettings(kind="preferences", num_rows=num_questions))]
        questions = [
            Question(row["prompt"], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows
        ]
        judge(questions[:32])
        (batched, batched_cpu), together = timed(lambda: judge(questions))
        (single, single_cpu), alone = timed(lambda: [judge([question])[0] for question in questions])
    gap = max(abs(a.probability - b.probability) for a, b in zip(together, alone, strict=True))
    return {
        "questions": num_questions,
        "batched_per_second": num_questions / batched,
        "single_per_second": num_questions / single,
        "speedup": single / batched,
        "speedup_in_cpu_time": single_cpu / batched_cpu,  # what others on the machine take does not count
        "largest_difference": gap,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--latency", type=float, default=0.05)
    args = parser.parse_args()
    result = {
        "server": measure_server(args.pairs, args.concurrency, args.latency),
        "local": measure_local(512),
        "machine": {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps(result, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
