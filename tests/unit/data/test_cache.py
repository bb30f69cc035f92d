import pytest

from alignlab.data import cache as module

ROWS = [{"prompt": "what is", "chosen": " a b", "rejected": " c"}, {"prompt": "a", "chosen": " b", "rejected": " c"}]


@pytest.fixture
def count(monkeypatch):
    """Count the calls of `tokenize` behind the cache."""
    calls = []
    real = module.tokenize
    monkeypatch.setattr(module, "tokenize", lambda *args: calls.append(1) or real(*args))
    return calls


def test_the_same_rows_are_tokenized_once(load, tmp_path, count):
    first = load(ROWS, "preference", cache=tmp_path / "cache")
    second = load(ROWS, "preference", cache=tmp_path / "cache")
    assert len(count) == 1
    assert second.train == first.train and second.digest == first.digest


def test_another_tokenizer_template_row_or_format_is_tokenized_again(load, tmp_path, count, make_tokenizer, chatml):
    keys = {"cache": tmp_path / "cache"}
    load(ROWS, "preference", **keys)
    load(ROWS, "preference", make_tokenizer(bos="<s>"), **keys)
    load(ROWS, "preference", make_tokenizer(chatml.chat_template), **keys)
    load([ROWS[0] | {"chosen": " a"}, ROWS[1]], "preference", **keys)
    load(ROWS, "completion", **keys)
    assert len(count) == 5


def test_a_row_that_the_template_refuses_is_refused_from_the_cache_too(load, tmp_path, count, llama):
    user = {"role": "user", "content": "a"}
    rows = [{"prompt": [user, user], "chosen": "b", "rejected": "c"}]
    texts = []
    for _ in range(2):
        with pytest.raises(Exception, match=r"row 1: the chat template .* roles must alternate") as caught:
            load(rows, "preference", llama, cache=tmp_path / "cache")
        texts.append(str(caught.value))
    assert len(count) == 1 and texts[0] == texts[1]


@pytest.mark.parametrize("damage", ["cut off", "changed", "emptied"])
def test_a_damaged_file_is_made_again_and_that_is_logged(load, tmp_path, count, caplog, damage):
    first = load(ROWS, "preference", cache=tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    good = path.read_bytes()
    changed = good[:-3] + bytes([good[-3] ^ 1]) + good[-2:]  # one mask turned around: its size is still right
    path.write_bytes({"cut off": good[:-10], "changed": changed, "emptied": b""}[damage])
    assert load(ROWS, "preference", cache=tmp_path / "cache").train == first.train
    assert len(count) == 2 and "is damaged and is made again" in caplog.text
    load(ROWS, "preference", cache=tmp_path / "cache")
    assert len(count) == 2  # the new file is good
