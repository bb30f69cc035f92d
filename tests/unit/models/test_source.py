import json
import sys

import pytest
from huggingface_hub import constants

from alignlab.errors import ModelError
from alignlab.models import context_length, load_tokenizer
from alignlab.models.source import find


def test_a_directory_is_taken_as_it_is_and_the_home_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert find(str(tmp_path / "model")) == str(tmp_path / "model")
    assert find("~/model") == str(tmp_path / "model")


def test_a_hub_id_that_cannot_be_reached_may_have_been_a_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-model").mkdir()
    with pytest.raises(
        ModelError, match="'my-modle' is neither a directory nor a hub id that can be reached"
    ) as caught:
        load_tokenizer("my-modle")
    assert caught.value.do == "did you mean 'my-model'?"


def test_a_hub_id_with_an_owner_may_be_misspelt_or_out_of_reach(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="'nobody/none-such' is neither") as caught:
        find("nobody/none-such")
    assert caught.value.do == "check the id and the network, or give a directory"


def test_a_missing_directory_lists_what_is_there(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(ModelError) as caught:
        find(str(tmp_path / "zzz"))
    assert caught.value.do == f"check the path; the directories in {tmp_path}: runs"


def test_a_missing_parent_is_said(tmp_path):
    with pytest.raises(ModelError) as caught:
        find(str(tmp_path / "none" / "such"))
    assert caught.value.do == f"there is no {tmp_path / 'none'} either; check the path"


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match="path is a file"):
        find(str(tmp_path / "model.safetensors"))


def test_the_context_is_known_under_each_architecture_s_name(directory):
    assert context_length(directory) == 128


def test_a_model_without_positions_has_no_end_of_context(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    assert context_length(str(tmp_path)) == sys.maxsize
