"""The sampler draws from the model's distribution, row by row, whatever else is in the batch."""

import math
from copy import deepcopy

import model_directories
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from alignlab.errors import DataError, ModelError
from alignlab.generate import Sampling, TorchGenerator, draw, eos_tokens, restrict
from alignlab.models import decoder, load_model, load_tokenizer
from alignlab.models.decode import Slots

PROMPTS = [
    [9, 30, 41],
    [100, 50, 60, 70, 80, 33, 44, 55, 66, 77, 88, 99],
    [12] * 5,
    [200, 201],
    [31, 32, 33, 34, 35, 36],
]


@pytest.fixture(scope="module", params=sorted(model_directories.STYLES))
def loaded(request, tmp_path_factory):
    path = model_directories.STYLES[request.param](tmp_path_factory.mktemp("model"))
    return load_model(path, "lm", dtype=torch.float32, device=torch.device("cpu")), load_tokenizer(path)


@pytest.fixture
def llama(tmp_path):
    path = model_directories.llama(tmp_path)
    return load_model(path, "lm", dtype=torch.float32, device=torch.device("cpu")), load_tokenizer(path)


def answers(loaded, prompts, seeds=None, max_cached_tokens=131072, max_rows=None, **sampling):
    generator = TorchGenerator(max_cached_tokens, max_rows)
    return generator(*loaded, prompts, Sampling(**sampling), range(len(prompts)) if seeds is None else seeds)


@torch.no_grad()
def log_probs(model, prompt, answer, temperature=1.0):
    """The answer's log-probs from one forward pass over the whole row, without cache or padding."""
    row = torch.tensor([[*prompt, *answer.tokens]])
    every = (model(row).logits[0] / temperature).log_softmax(-1)
    return [float(every[len(prompt) - 1 + i, token]) for i, token in enumerate(answer.tokens)]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probs_are_those_of_a_fresh_forward_pass_at_the_temperature(loaded, temperature, monkeypatch):
    monkeypatch.setattr(loaded[0].generation_config, "eos_token_id", list(range(20)))
    prompts = PROMPTS * 8
    found = answers(loaded, prompts, max_new_tokens=40, temperature=temperature, top_k=50)
    assert len({len(a.tokens) for a in found}) > 5  # rows have left the batch at many steps
    for prompt, answer in zip(prompts, found, strict=True):
        expected = log_probs(loaded[0], prompt, answer, temperature)
        assert answer.logp == pytest.approx(expected, abs=2e-5)


def test_greedy_answers_are_those_of_transformers_generate(loaded):
    model = loaded[0]
    found = answers(loaded, PROMPTS, max_new_tokens=30, temperature=0)
    for prompt, answer in zip(PROMPTS, found, strict=True):
        row = torch.tensor([prompt])
        theirs = model.generate(
            row, attention_mask=torch.ones_like(row), do_sample=False, max_new_tokens=30, pad_token_id=0
        )
        assert list(answer.tokens) == theirs[0, len(prompt) :].tolist()
        assert answer.logp == pytest.approx(log_probs(model, prompt, answer), abs=2e-5)


def test_an_answer_does_not_depend_on_the_rows_beside_it(loaded):
    prompts, seeds = PROMPTS * 4, [7 * i for i in range(20)]
    together = answers(loaded, prompts, seeds, max_new_tokens=32)
    in_chunks = answers(loaded, prompts, seeds, max_cached_tokens=100, max_new_tokens=32)
    backwards = answers(loaded, prompts[::-1], seeds[::-1], max_new_tokens=32)[::-1]
    alone = [answers(loaded, [p], [s], max_new_tokens=32)[0] for p, s in zip(prompts, seeds, strict=True)]
    for others in (in_chunks, backwards, alone):
        assert [a.tokens for a in others] == [a.tokens for a in together]
        assert [a.finished for a in others] == [a.finished for a in together]
    assert len({a.tokens for a in together}) == 20


def test_an_answer_is_the_same_in_batches_of_1_8_and_64_and_in_any_order(loaded, monkeypatch):
    monkeypatch.setattr(loaded[0].generation_config, "eos_token_id", list(range(20)))  # rows end at many lengths
    prompts, seeds = [[9 + i % 7] * (1 + i % 9) for i in range(64)], [3 * i for i in range(64)]
    alone = answers(loaded, prompts, seeds, max_rows=1, max_new_tokens=24)
    assert len({len(a.tokens) for a in alone}) > 5
    order = np.random.default_rng(0).permutation(64).tolist()
    for max_rows in (8, 64):
        for rows in (list(range(64)), order):
            found = answers(
                loaded, [prompts[i] for i in rows], [seeds[i] for i in rows], max_rows=max_rows, max_new_tokens=24
            )
            assert [a.tokens for a in found] == [alone[i].tokens for i in rows]
            for a, i in zip(found, rows, strict=True):
                assert a.logp == pytest.approx(alone[i].logp, abs=2e-5)


def test_the_next_prompt_takes_the_place_of_a_row_that_ended(llama, monkeypatch):
    monkeypatch.setattr(llama[0].generation_config, "eos_token_id", list(range(40)))
    assert decoder(llama[0], 4, 40) is not None  # tried before the steps are counted
    sizes = []
    step = Slots.step
    monkeypatch.setattr(Slots, "step", lambda slots, tokens: sizes.append(len(tokens)) or step(slots, tokens))
    found = answers(llama, PROMPTS * 8, max_rows=4, max_new_tokens=24)
    steps = sum(len(a.tokens) - 1 for a in found)  # the first token of an answer comes from its prompt's pass
    assert sum(sizes) == steps
    assert max(sizes) == 4
    assert len(sizes) < 0.45 * steps  # in groups of 4 that wait for their longest answer, about 0.6


@pytest.mark.parametrize(
    ("config", "model_class"),
    [
        (BloomConfig(vocab_size=320, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2), BloomForCausalLM),
        (
            MistralConfig(
                vocab_size=320,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                sliding_window=6,
                initializer_range=0.2,
            ),
            MistralForCausalLM,
        ),
    ],
    ids=["positions in the mask", "a window in every layer"],
)
def test_models_that_take_no_mask_for_each_row_answer_as_they_should(llama, config, model_class):
    torch.manual_seed(0)
    model = model_class(config).eval()
    assert decoder(model, 2, 20) is None
    found = answers((model, llama[1]), PROMPTS * 2, max_new_tokens=16, max_rows=3)
    for prompt, answer in zip(PROMPTS * 2, found, strict=True):
        assert answer.logp == pytest.approx(log_probs(model, prompt, answer), abs=2e-5)


def test_every_kind_of_model_here_has_a_slot_for_each_row(loaded):
    assert decoder(loaded[0], 2, 20) is not None


def test_seeds_that_differ_in_their_upper_half_give_other_answers(llama):
    first, second, again = answers(llama, [PROMPTS[0]] * 3, [5, 5 + 2**40, 5], max_new_tokens=8)
    assert first == again
    assert first.tokens != second.tokens


def chi_square(counts, expected):
    """The statistic over its degrees of freedom, in standard deviations; rare tokens share a bin."""
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    free = len(counts) - 1
    return (((counts - expected) ** 2 / expected).sum() - free) / math.sqrt(2 * free)


@torch.no_grad()
def test_tokens_are_drawn_from_the_model_s_distribution(llama):
    """Where it is the right one, the statistic is about a standard normal deviate, and the seeds are fixed."""
    num = 4000
    found = answers(llama, [PROMPTS[2]] * num, max_new_tokens=2, temperature=0.8)
    counts = np.bincount([a.tokens[0] for a in found], minlength=320)
    logits = llama[0](torch.tensor([PROMPTS[2]])).logits[0, -1].double()
    assert abs(chi_square(counts, num * (logits / 0.8).softmax(-1).numpy())) < 4
    assert chi_square(counts, num * logits.softmax(-1).numpy()) > 8  # it can tell 0.8 from 1

    counts[[1, 4]] = 0  # EOS
    first = int(counts.argmax())  # the second token's distribution, given the likeliest first one
    seconds = np.bincount([a.tokens[-1] for a in found if a.tokens[0] == first], minlength=320)
    logits = llama[0](torch.tensor([[*PROMPTS[2], first]])).logits[0, -1].double()
    assert seconds.sum() > 150
    assert abs(chi_square(seconds, seconds.sum() * (logits / 0.8).softmax(-1).numpy())) < 4


def test_draw_inverts_the_cdf_and_never_takes_what_has_no_probability():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(5, -1)
    tokens, logp = draw(logits, torch.tensor([0.0, 0.49, 0.5, 0.99, 1.0]).double(), Sampling())
    assert tokens.tolist() == [1, 1, 3, 3, 3]
    assert logp.tolist() == pytest.approx([math.log(0.5)] * 5)


def test_log_probs_are_over_the_whole_vocabulary_whatever_top_k_leaves_out():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    _, logp = draw(logits, torch.tensor([0.99]).double(), Sampling(top_k=1, temperature=2.0))
    assert float(logp) == pytest.approx(float((logits / 2).log_softmax(-1)[0, 0]))


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (0, 1.0, [0.1, 0.4, 0.2, 0.3]),
        (2, 1.0, [0, 0.4, 0, 0.3]),
        (9, 1.0, [0.1, 0.4, 0.2, 0.3]),
        (0, 0.39, [0, 0.4, 0, 0]),
        (0, 0.41, [0, 0.4, 0, 0.3]),
        (0, 0.75, [0, 0.4, 0.2, 0.3]),
        (2, 0.56, [0, 0.4, 0, 0]),  # 0.4 of the 0.7 that top-k leaves is more than 0.56
        (2, 0.58, [0, 0.4, 0, 0.3]),
    ],
)
def test_top_k_and_then_top_p_keep_the_likeliest(top_k, top_p, kept):
    probs = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    torch.testing.assert_close(restrict(probs, top_k, top_p), torch.tensor([kept]))


@pytest.mark.parametrize("sampling", [{"top_k": 3}, {"top_p": 0.2}, {"top_k": 5, "top_p": 0.5}])
def test_only_tokens_that_are_left_are_drawn(llama, sampling):
    found = answers(llama, [PROMPTS[4]] * 300, max_new_tokens=1, **sampling)
    with torch.no_grad():
        probs = llama[0](torch.tensor([PROMPTS[4]])).logits[0, -1:].softmax(-1)
    left = restrict(probs, sampling.get("top_k", 0), sampling.get("top_p", 1.0))[0].nonzero().flatten().tolist()
    assert {a.tokens[0] for a in found} == set(left)


def test_every_eos_of_the_generation_config_ends_an_answer(llama):
    model, tokenizer = llama
    assert eos_tokens(model, tokenizer) == {1, 4}
    whole = answers(llama, [PROMPTS[1]], max_new_tokens=12, temperature=0)[0]
    assert len(whole.tokens) == 12 and not whole.finished
    end = next(i for i in range(3, 12) if whole.tokens[i] not in whole.tokens[:i])
    model.generation_config.eos_token_id = [1, whole.tokens[end]]
    cut = answers(llama, [PROMPTS[1]], max_new_tokens=12, temperature=0)[0]
    assert cut.tokens == whole.tokens[: end + 1]  # the stop token is part of the answer
    assert cut.finished


def test_a_stop_string_ends_an_answer_with_the_token_that_completes_it(loaded):
    prompts, stop = PROMPTS * 4, ("e", " t", "an")
    plain = answers(loaded, prompts, max_new_tokens=40)
    stopped = 0
    for whole, cut in zip(plain, answers(loaded, prompts, max_new_tokens=40, stop=stop), strict=True):
        texts = [loaded[1].decode(whole.tokens[:i]) for i in range(1, len(whole.tokens) + 1)]
        end = next((i for i, text in enumerate(texts, start=1) if any(s in text for s in stop)), None)
        assert cut.tokens == whole.tokens[:end]
        assert cut.finished == (whole.finished or end is not None)
        stopped += end is not None
    assert stopped > 3


def test_a_stop_string_may_span_tokens_and_lies_in_the_answer_only(llama):
    tokenizer = llama[1]
    whole = answers(llama, [PROMPTS[1]], [3], max_new_tokens=30)[0]
    texts = [tokenizer.decode(whole.tokens[:i]) for i in range(31)]
    first = next(i for i in range(2, 28) if "\ufffd" not in tokenizer.decode(whole.tokens[i : i + 3]))
    stop = tokenizer.decode(whole.tokens[first : first + 3])
    expected = next(i for i in range(31) if stop in texts[i])
    cut = answers(llama, [PROMPTS[1]], [3], max_new_tokens=30, stop=(stop,))[0]
    assert cut.tokens == whole.tokens[:expected]
    in_prompt = tokenizer.decode(PROMPTS[1][:3])
    assert in_prompt not in texts[30]
    assert answers(llama, [PROMPTS[1]], [3], max_new_tokens=30, stop=(in_prompt,))[0] == whole


def test_answers_are_cut_where_the_context_ends_row_by_row(loaded, monkeypatch):
    tokenizer = deepcopy(loaded[1])
    tokenizer.eos_token = None  # nothing but the length ends an answer
    monkeypatch.setattr(loaded[0].generation_config, "eos_token_id", None)
    prompts = [[33 + i % 50 for i in range(n)] for n in (127, 120, *[5] * 30)]
    found = answers((loaded[0], tokenizer), prompts, max_new_tokens=12, temperature=0)
    assert [(len(a.tokens), a.finished) for a in found] == [(1, False), (8, False), *[(12, False)] * 30]
    for prompt, answer in zip(prompts, found, strict=True):
        assert answer.logp == pytest.approx(log_probs(loaded[0], prompt, answer), abs=2e-5)


@torch.no_grad()
def test_what_would_come_after_an_answer_was_cut_does_not_finish_it(llama, monkeypatch):
    model, prompt = llama[0], [33 + i % 50 for i in range(127)]
    last = int(model(torch.tensor([prompt])).logits[0, -1].argmax())
    beyond = int(model(torch.tensor([[*prompt, last]])).logits[0, -1].argmax())
    monkeypatch.setattr(model.generation_config, "eos_token_id", beyond)
    found = answers(
        llama, [prompt, *[[40, 41]] * 30], max_new_tokens=3, temperature=0
    )  # the others keep it in the batch
    assert beyond not in (last, *found[1].tokens)
    assert (found[0].tokens, found[0].finished) == ((last,), False)


def test_a_prompt_without_room_is_named_with_the_number_of_its_row(llama):
    with pytest.raises(DataError, match="prompt 1 has 128 tokens and the model's context 128") as caught:
        answers(llama, [[9], [9] * 128, [9] * 200])
    assert caught.value.where == "2 of 3 prompts"
    assert "overlong" in caught.value.do


def test_an_empty_prompt_is_an_error(llama):
    with pytest.raises(DataError, match="prompt 1 is empty"):
        answers(llama, [[9], []])


def test_no_prompts_have_no_answers(llama):
    assert answers(llama, []) == []


def test_a_model_without_a_cache_of_keys_and_values_is_an_error(llama):
    config = MambaConfig(hidden_size=32, num_hidden_layers=1, vocab_size=320, state_size=4)
    with pytest.raises(ModelError, match="MambaForCausalLM keeps no cache of keys and values"):
        answers((MambaForCausalLM(config).eval(), llama[1]), PROMPTS)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_with_broken_weights_is_an_error(llama, temperature):
    llama[0].base_model.norm.weight.data.fill_(math.nan)
    with pytest.raises(ModelError, match="not finite"):
        answers(llama, PROMPTS, temperature=temperature)


def test_the_mode_of_the_model_is_left_as_it_was_and_checkpointing_does_no_harm(tmp_path):
    path = model_directories.qwen3(tmp_path)
    kinds = {"dtype": torch.float32, "device": torch.device("cpu")}
    plain = load_model(path, "lm", **kinds), load_tokenizer(path)
    model = load_model(path, "lm", gradient_checkpointing=True, **kinds).train()
    assert answers((model, plain[1]), PROMPTS, max_new_tokens=8) == answers(plain, PROMPTS, max_new_tokens=8)
    assert model.training and not plain[0].training


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"max_new_tokens": 0}, {"stop": ("",)}, {"topk": 3}]
)
def test_settings_out_of_range_are_errors(wrong):
    with pytest.raises(ValidationError):
        Sampling(**wrong)
