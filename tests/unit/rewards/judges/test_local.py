import pytest
import torch
from toy import base_model, method, run_for

from alignlab.data import prompt_record, stop_tokens
from alignlab.errors import RecipeError, RewardError
from alignlab.models import load_model, load_tokenizer, save_model
from alignlab.rewards.judges import JudgeContext, LocalJudgeRule, Principle, Question, RewardModelJudgeRule
from alignlab.rewards.judges.prompts import load_wording

TURNS = [{"role": "user", "content": "What is two plus two?"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return base_model(tmp_path_factory.mktemp("judge") / "model")


@pytest.fixture(scope="module")
def talkative(model, tmp_path_factory):
    """A model that does not only say its last token again."""
    lm = load_model(str(model), "lm", dtype=torch.float32, device=torch.device("cpu"))
    rng = torch.Generator().manual_seed(1)
    for parameter in lm.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=rng)
    lm.config.max_position_embeddings = 256  # what follows the reasons has to fit
    path = tmp_path_factory.mktemp("judge") / "talkative"
    save_model(lm, load_tokenizer(str(model)), path)
    return path


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "compare.txt"
    path.write_text("{prompt}\nA: {first}\nB: {second}\n{question}\n")
    return str(path)


def load(model, template, **settings):
    return LocalJudgeRule(path=str(model), template=template, **settings).load(JudgeContext())


def questions(num=12):
    return [
        Question(TURNS, "It is four. " * (1 + i % 5), "I do not know.", Principle("k", f"Q{i}?")) for i in range(num)
    ]


def test_the_probability_is_the_softmax_of_the_two_letters_log_probs(model, template):
    question = Question(TURNS, "It is four.", "I do not know.")
    (verdict,) = load(model, template)([question])
    tokenizer = load_tokenizer(str(model))
    text = "What is two plus two?\nA: It is four.\nB: I do not know.\nWhich answer is better?"
    record = prompt_record(text, tokenizer)
    lm = load_model(str(model), "lm", dtype=torch.float32, device=torch.device("cpu")).requires_grad_(False)
    logits = lm(input_ids=torch.tensor([record.samples["prompt"].tokens])).logits[0, -1].double()
    letters = [tokenizer.encode(letter, add_special_tokens=False)[0] for letter in "AB"]
    assert verdict.probability == pytest.approx(float(logits[letters].softmax(0)[0]), rel=1e-5)
    assert verdict.facts["sure"] == pytest.approx(float(logits.softmax(0)[letters].sum()), rel=1e-4)


def test_a_verdict_does_not_depend_on_what_is_asked_beside_it(model, template):
    asked = questions()
    together = [v.probability for v in load(model, template)(asked)]
    small = [v.probability for v in load(model, template, batch_tokens=1)(asked)]
    assert together == pytest.approx(small, rel=1e-5)
    assert len(set(together)) > 8


def test_swapping_equal_answers_changes_nothing_and_the_order_of_questions_is_kept(model, template):
    judge = load(model, template)
    asked = questions()
    assert [v.probability for v in judge(asked[::-1])] == pytest.approx([v.probability for v in judge(asked)][::-1])


def test_a_single_answer_is_rated_by_its_digits(model, tmp_path):
    path = tmp_path / "rate.txt"
    path.write_text("{prompt} {first} {question}")
    (verdict,) = load(model, None, rate_template=str(path))([Question(TURNS, "It is four.")])
    assert 0.3 < verdict.probability < 0.7  # an untrained model finds all digits about as likely
    assert 0 < verdict.facts["sure"] < 1


@pytest.mark.parametrize("turns", [TURNS, "What is two plus two?"], ids=["chat", "text"])
def test_reasons_are_the_models_own_words_and_the_letter_is_asked_for_after_them(talkative, template, turns):
    question = Question(turns, "It is four.", "I do not know.")
    judge = load(talkative, template, reasons=8)
    (verdict,) = judge([question])
    tokenizer, lm = judge.tokenizer, judge.model
    asked = judge._tokens([question], [None])[0][0]
    drawn = list(asked)
    for _ in range(8):  # greedy, a token at a time, without a cache
        drawn.append(int(lm(input_ids=torch.tensor([drawn])).logits[0, -1].argmax()))
        if drawn[-1] in stop_tokens(tokenizer):
            break
    assert verdict.reply == tokenizer.decode(drawn[len(asked) :], skip_special_tokens=True).strip() != ""
    (full, words), *_ = judge._tokens([question], [verdict.reply])
    text = tokenizer.decode(full)
    assert text.index(verdict.reply) < text.index("Reply with the letter A or B")
    found = lm(input_ids=torch.tensor([full])).logits[0, -1].double()[list(words.values())].softmax(0)
    assert verdict.probability == pytest.approx(float(found[0]), rel=1e-5)
    assert judge.identity != load(talkative, template).identity


def test_reasons_do_not_depend_on_what_is_asked_beside_them(talkative, template):
    judge = load(talkative, template, reasons=6, batch_tokens=400)
    asked = questions(8)
    together = judge(asked)
    alone = [judge([question])[0] for question in asked]
    assert [v.reply for v in together] == [v.reply for v in alone]
    assert [v.probability for v in together] == pytest.approx([v.probability for v in alone], rel=1e-5)


def test_reasons_that_would_not_fit_into_the_context_are_an_error(model, template):
    with pytest.raises(RewardError, match=r"tokens with 120 for reasons, and the judge's context is 128"):
        load(model, template, reasons=120)([Question(TURNS, "It is four.", "No.")])


def test_a_question_over_the_context_is_an_error_with_its_length(model, template):
    with pytest.raises(RewardError, match=r"a question has [\d,]+ tokens, and the judge's context is 128"):
        load(model, template)([Question(TURNS, "It is four. " * 100, "No.")])


def test_a_template_with_a_place_that_there_is_not_is_an_error(model, tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("{prompt} {frist} {second}")
    with pytest.raises(RecipeError, match=r"there is no place \{frist\} here") as caught:
        load(model, str(path))
    assert "did you mean 'first'" in str(caught.value)
    path.write_text("{prompt} {first}")
    with pytest.raises(RecipeError, match=r"has no place \{second\}"):
        load(model, str(path))


def test_the_templates_that_ship_hold_all_that_is_asked():
    wording = load_wording(None, None)
    text = wording.text(Question(TURNS, "one {brace}", "two", Principle("x", "Kinder?")))
    assert all(part in text for part in ("User: What is two plus two?", "one {brace}", "two", "Kinder?"))
    assert "How good is this answer?" in wording.text(Question("p", "one"))


def test_the_identity_changes_with_the_template_and_with_the_weights(model, template, tmp_path):
    one = load(model, template).identity
    assert load(model, template).identity == one
    other = tmp_path / "other.txt"
    other.write_text("Hm. {prompt} {first} {second}")
    assert load(model, str(other)).identity != one
    changed = load_model(str(model), "lm", dtype=torch.float32, device=torch.device("cpu"))
    next(changed.parameters()).data.mul_(1.5)
    save_model(changed, load_tokenizer(str(model)), tmp_path / "changed")
    assert load(tmp_path / "changed", template).identity != one


def test_a_reward_model_compares_by_the_difference_of_its_scores(model, tmp_path):
    chosen = method("reward_model")
    run = run_for(model, chosen)
    save_model(run.models["reward"], run.tokenizer, tmp_path / "rm")
    judge = RewardModelJudgeRule(path=str(tmp_path / "rm"), temperature=2.0).load(JudgeContext())
    asked = [
        Question(TURNS, "It is four.", "No."),
        Question(TURNS, "No.", "It is four."),
        Question(TURNS, "No.", "No."),
    ]
    there, back, same = (v.probability for v in judge(asked))
    assert there == pytest.approx(1 - back, abs=1e-6) and same == 0.5 and there != pytest.approx(0.5, abs=1e-4)
    scores = judge._scores([(TURNS, "It is four."), (TURNS, "No.")])
    assert there == pytest.approx(float(torch.tensor((scores[0] - scores[1]) / 2).sigmoid()), rel=1e-5)


def test_a_reward_model_cuts_prompts_at_their_start_and_does_not_read_an_answer_that_alone_is_too_long(model, tmp_path):
    run = run_for(model, method("reward_model"))
    save_model(run.models["reward"], run.tokenizer, tmp_path / "rm")
    judge = RewardModelJudgeRule(path=str(tmp_path / "rm"), max_length=20).load(JudgeContext())
    long = [{"role": "user", "content": "Well. " * 40 + TURNS[0]["content"]}]
    cut, whole, unread = judge(
        [Question(long, "Four.", "No."), Question(TURNS, "Four.", "No."), Question(TURNS, "It is four. " * 20, "No.")]
    )
    assert unread.probability is None and unread.reply == "an answer alone is over 20 tokens"
    assert cut.probability != pytest.approx(0.5, abs=1e-5) and whole.probability is not None


def test_a_reward_model_that_asks_reads_the_principles_question_after_the_prompt(model, tmp_path):
    run = run_for(model, method("reward_model"))
    save_model(run.models["reward"], run.tokenizer, tmp_path / "rm")
    rules = [RewardModelJudgeRule(path=str(tmp_path / "rm"), ask=ask) for ask in (False, True)]
    deaf, asks = (rule.load(JudgeContext()) for rule in rules)
    asked = [Question(TURNS, "It is four.", "No.", Principle(name, f"{name}?")) for name in ("kind", "short")]
    one, two = deaf(asked)
    assert one.probability == two.probability
    one, two = asks(asked)
    assert one.probability != two.probability
    after = [{"role": "user", "content": f"{TURNS[0]['content']}\nkind?"}]
    assert one.probability == pytest.approx(deaf([Question(after, "It is four.", "No.")])[0].probability, rel=1e-6)


def test_exactly_one_of_from_and_path_is_wanted():
    with pytest.raises(ValueError, match="exactly one of `from`"):
        LocalJudgeRule()
