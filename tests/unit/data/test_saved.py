import datasets
import pytest

from alignlab.data.rows import Rows, RowsSettings
from alignlab.errors import DataError

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]


def rows(path, **settings):
    return list(Rows().load(RowsSettings(path=str(path), **settings)))


def test_a_saved_dataset_is_read(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert rows(tmp_path / "saved")[1] == (f"{tmp_path}/saved, row 2", ROWS[1])


def test_a_split_of_a_saved_dataset_is_taken_train_if_none_is_named(tmp_path):
    found = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(ROWS[:1]), "test": datasets.Dataset.from_list(ROWS[1:])}
    )
    found.save_to_disk(tmp_path / "saved")
    assert [row for _, row in rows(tmp_path / "saved")] == ROWS[:1]
    assert [row for _, row in rows(tmp_path / "saved", split="test")] == ROWS[1:]
    with pytest.raises(DataError, match=r"no split 'tset'\n.*\n.*did you mean 'test'"):
        rows(tmp_path / "saved", split="tset")


def test_a_directory_without_data_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DataError, match=rf"`datasets` cannot load this: (?s:.*)where: {tmp_path}"):
        rows(tmp_path)


def test_a_hub_id_that_cannot_be_reached_says_what_it_was_taken_for(monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *_: (_ for _ in ()).throw(ConnectionError("offline")))
    with pytest.raises(DataError, match=r"cannot load this: offline(?s:.*)no file or directory 'my-org/my-data' here"):
        rows("my-org/my-data")


def test_what_looks_like_a_file_is_not_asked_for_at_the_hub(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        rows(tmp_path / "data.jsonl")


def test_a_split_of_a_file_is_refused(write):
    with pytest.raises(DataError, match="`split` is for a directory or hub id"):
        rows(write("data.jsonl", ROWS), split="train")


def test_columns_are_renamed(write):
    path = write("data.jsonl", [{"question": "a", "completion": "b", "prompt": "old"}])
    assert rows(path, columns={"prompt": "question"})[0][1] == {"prompt": "a", "completion": "b"}


def test_a_column_to_rename_that_is_not_there_names_the_nearest(write):
    path = write("data.jsonl", [{"question": "a", "completion": "b"}])
    with pytest.raises(DataError, match=r"found: `completion`, `question`(?s:.*)did you mean 'question'"):
        rows(path, columns={"prompt": "quesion"})
