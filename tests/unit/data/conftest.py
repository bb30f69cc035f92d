import gzip
import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from alignlab.config.recipe import DataSettings
from alignlab.data import SOURCES, Mixed, load_split

TEXT = ["what is the capital of france ? it is paris .", "Human: hello\n\nAssistant: hi there, how are you", "a b c\nd"]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (  # holds BOS, and refuses what does not alternate
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
FORGETFUL = (  # like those that leave earlier thoughts out: a turn changes when another one follows
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n{% endif %}{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tokenizer(template=None, bos=None, eos="</s>", sentencepiece=False):
    """A small BPE tokenizer: byte-level, or one that puts a space before the first word as SentencePiece does."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>" if sentencepiece else None))
    if sentencepiece:
        bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
        bpe.decoder = decoders.Metaspace(prepend_scheme="always", split=False)
        alphabet = sorted({*"".join(TEXT), "▁"})
    else:
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(TEXT, trainer)
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=bos, eos_token=eos, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="session")
def make_tokenizer():
    return build_tokenizer


@pytest.fixture(scope="session")
def plain():
    """No BOS, no chat template."""
    return build_tokenizer()


@pytest.fixture(scope="session")
def chatml():
    return build_tokenizer(CHATML, eos="<|im_end|>")


@pytest.fixture(scope="session")
def llama():
    return build_tokenizer(LLAMA, bos="<s>")


@pytest.fixture(scope="session")
def forgetful():
    return build_tokenizer(FORGETFUL, eos="<|im_end|>")


@pytest.fixture
def write(tmp_path):
    """Write rows to a file: text as it is, rows as jsonl."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        return path

    return write


@pytest.fixture
def mix():
    """One source of a mixture: keys of `DataSettings` go there, the others are the source's."""
    known = {source.name: source for source in SOURCES}

    def mix(source, **keys):
        settings = DataSettings(source=source, **{k: v for k, v in keys.items() if k in DataSettings.model_fields})
        own = {k: v for k, v in keys.items() if k not in DataSettings.model_fields}
        return Mixed(known[source], known[source].settings(**own), settings)

    return mix


@pytest.fixture
def load(mix, write, plain):
    """Load rows (a path, or rows that are written to data.jsonl) as one source."""

    def load(rows, want, tokenizer=plain, source="rows", context_length=512, cache=None, **keys):
        path = rows if isinstance(rows, (str, Path)) else write("data.jsonl", rows)
        mixed = mix(source, path=str(path), **keys)
        return load_split([mixed], want, tokenizer, context_length=context_length, seed=0, cache=cache)

    return load


def acted_text(tokenizer, sample):
    return tokenizer.decode([t for t, acted in zip(sample.tokens, sample.acted, strict=True) if acted])


@pytest.fixture(scope="session")
def said():
    """Decode what is acted."""
    return acted_text
