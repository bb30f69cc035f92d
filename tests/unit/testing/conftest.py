import pytest
import torch
from transformers import AutoModelForSequenceClassification

from alignlab.models import load_tokenizer, save_model


@pytest.fixture(scope="session")
def tiny_reward_model(tiny_model, tmp_path_factory):
    """The tiny model with a scalar head that is not zero."""
    directory = tmp_path_factory.mktemp("tiny") / "reward"
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
    save_model(model, load_tokenizer(str(tiny_model)), directory)
    return directory
