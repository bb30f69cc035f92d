import gzip
import json

import pytest

from alignlab.data.files import read_file
from alignlab.data.sources import RowProblem
from alignlab.errors import DataError

ROWS = [{"prompt": "a", "completion": "NA"}, {"prompt": "é\nb", "completion": "null"}]


def read(path):
    return list(read_file(path))


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, kind, suffix):
    path = tmp_path / f"data.{kind}{suffix}"
    if kind == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "made")
        content = (tmp_path / "made").read_bytes()
    elif kind == "csv":
        content = 'prompt,completion\na,NA\n"é\nb",null\n'.encode()
    else:
        content = (json.dumps(ROWS) if kind == "json" else "\n".join(map(json.dumps, ROWS))).encode()
    path.write_bytes(gzip.compress(content) if suffix else content)
    assert read(path) == [(f"{path}, row 1", ROWS[0]), (f"{path}, row 2", ROWS[1])]


def test_row_numbers_of_jsonl_are_lines_even_after_blank_ones(write):
    path = write("data.jsonl", '{"prompt": "a"}\n\n\n{"prompt": "b"}\n')
    assert [where for where, _ in read(path)] == [f"{path}, row 1", f"{path}, row 4"]


def test_a_broken_line_names_line_and_column_and_the_other_lines_are_read(write):
    path = write("data.jsonl", '{"prompt": "a"}\n{"prompt" "b"}\n{"prompt": "c"}\n')
    rows = read(path)
    assert str(rows[1][1]) == "not JSON: Expecting ':' delimiter (line 2, column 11)"
    assert rows[2] == (f"{path}, row 3", {"prompt": "c"})


def test_a_line_that_is_no_object_is_a_problem_of_that_row(write):
    problem = read(write("data.jsonl", '["a"]\n'))[0][1]
    assert isinstance(problem, RowProblem) and str(problem) == "the row is a list, wanted an object"


def test_rows_a_line_under_the_name_json_are_read(write):
    path = write("data.json", ROWS)
    assert read(path) == [(f"{path}, row 1", ROWS[0]), (f"{path}, row 2", ROWS[1])]


def test_broken_json_names_line_and_column(write):
    path = write("data.json", '[{"prompt": "a"},\n {"prompt": }]')
    with pytest.raises(DataError, match=r"not JSON: Expecting value\n.*data.json, line 2, column 13"):
        read(path)


def test_a_json_object_is_no_list_of_rows(write):
    with pytest.raises(DataError, match="wants a list of rows; this one holds an object"):
        read(write("data.json", '{"data": []}'))


def test_a_csv_row_with_too_few_or_too_many_cells_is_a_problem_of_that_row(write):
    rows = read(write("data.csv", "prompt,completion\na,b\na\na,b,c\n"))
    assert rows[0][1] == {"prompt": "a", "completion": "b"}
    assert str(rows[1][1]) == "the row has 1 cells, the header 2 (line 3)"
    assert str(rows[2][1]) == "the row has 3 cells, the header 2 (line 4)"


def test_an_open_quote_in_a_csv_names_the_file(write):
    with pytest.raises(DataError, match="not CSV: unexpected end of data"):
        read(write("data.csv", 'prompt\n"a'))


def test_a_cell_longer_than_the_csv_module_allows_is_read(write):
    path = write("data.csv", "prompt\n" + "x" * 200_000 + "\n")
    assert len(read(path)[0][1]["prompt"]) == 200_000


def test_a_gz_file_that_is_cut_off_says_so(write):
    path = write("data.jsonl.gz", [{"prompt": str(i)} for i in range(500)])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"cut off or damaged: (?s:.*)data.jsonl.gz\n.*copy or download it again"):
        read(path)


def test_a_file_that_only_claims_to_be_gz_says_so(tmp_path):
    path = tmp_path / "data.jsonl.gz"
    path.write_text('{"prompt": "a"}')
    with pytest.raises(DataError, match="cut off or damaged: Not a gzipped file"):
        read(path)


@pytest.mark.parametrize("cut", [0, 100], ids=["no parquet", "cut off"])
def test_an_unreadable_parquet_names_the_file(tmp_path, cut):
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "data.parquet"
    parquet.write_table(pa.Table.from_pylist(ROWS), path)
    path.write_bytes(path.read_bytes()[:-cut] if cut else b"prompt,completion")
    with pytest.raises(DataError, match=r"not readable as parquet: (?s:.*)where: .*data\.parquet"):
        read(path)


def test_an_empty_file_says_so(write):
    with pytest.raises(DataError, match=r"the file is empty\n  where: .*data\.jsonl"):
        read(write("data.jsonl", ""))


def test_a_missing_file_names_the_nearest_beside_it(write):
    path = write("train.jsonl", [{"prompt": "a"}])
    with pytest.raises(
        DataError, match=r"there is no such file\n  where: .*trian\.jsonl\n.*did you mean 'train\.jsonl'"
    ):
        read(path.with_name("trian.jsonl"))


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no such directory\n  where: .*nowhere"):
        read(tmp_path / "nowhere" / "data.jsonl")


def test_an_unknown_kind_of_file_names_the_known_ones(write):
    with pytest.raises(DataError, match=r"does not say how to read it(?s:.*)\.json, \.jsonl, \.csv, \.parquet"):
        read(write("data.tsv", "a\tb"))


def test_a_file_that_is_not_utf8_says_where(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"prompt": "\xff"}')
    with pytest.raises(DataError, match="not UTF-8: invalid start byte at byte 12"):
        read(path)
