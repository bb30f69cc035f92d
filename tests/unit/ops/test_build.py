"""alignlab.ops.build: what it compiles, and when it compiles again."""

import pytest

from alignlab.ops import build

pytestmark = pytest.mark.skipif(build.missing_tools() is not None, reason=str(build.missing_tools()))
SOURCE = '#include "answer.h"\nextern "C" __attribute__((visibility("default"))) int answer() { return ANSWER; }\n'


@pytest.fixture
def source(tmp_path):
    (tmp_path / "answer.h").write_text("#define ANSWER 42\n")
    (tmp_path / "answer.cpp").write_text(SOURCE)
    return tmp_path / "answer.cpp"


def test_a_library_is_compiled_once_and_again_when_a_header_or_a_flag_changes(source, tmp_path):
    import ctypes

    where = tmp_path / "builds"
    first = build.build("answer", [source], directory=where)
    assert ctypes.CDLL(str(first)).answer() == 42
    stamp = first.stat().st_mtime_ns
    assert build.build("answer", [source], directory=where) == first
    assert first.stat().st_mtime_ns == stamp
    (tmp_path / "answer.h").write_text("#define ANSWER 43\n")
    second = build.build("answer", [source], directory=where)
    assert ctypes.CDLL(str(second)).answer() == 43
    assert build.build("answer", [source], directory=where, flags=["-DX"]) not in (first, second)
    assert {path.suffix for path in where.iterdir()} == {""}  # nothing half-built stays behind


def test_a_compile_error_ends_in_what_the_compiler_said_and_leaves_nothing(source, tmp_path):
    source.write_text("this is no C++\n")
    with pytest.raises(build.BuildError, match=r"the compiler failed:(.|\n)*answer.cpp:1:1: error"):
        build.build("answer", [source], directory=tmp_path / "builds")
    assert list((tmp_path / "builds").iterdir()) == []


def test_a_missing_compiler_is_said(source, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(build.BuildError, match=r"there is no C\+\+ compiler \(no-such-compiler\)"):
        build.build("answer", [source], directory=tmp_path)


def test_architectures_are_sm_80_sm_90_and_ptx_or_what_torchs_variable_asks_for(monkeypatch):
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    assert build.architecture_flags() == (
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    )
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0a 10.0")
    assert build.architecture_flags()[0] == "-gencode=arch=compute_90a,code=sm_90a"
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "Hopper")
    with pytest.raises(build.BuildError, match=r"wants numbers such as '8.0;9.0.PTX', got 'Hopper'"):
        build.architecture_flags()
