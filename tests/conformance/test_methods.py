"""What the engine promises of every method, checked on every registered one."""

from dataclasses import fields, replace

import pytest
import torch
import toy
from torch import Tensor

from alignlab.engine.microbatch import microbatches, minibatches
from alignlab.engine.roles import exported_role
from alignlab.engine.update import accumulate

every_method = pytest.mark.parametrize("name", toy.registered())
every_variant = pytest.mark.parametrize("name", toy.variants())


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return toy.base_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def setup(base, name):
    chosen = toy.method(name)
    run = toy.run_for(base, chosen)
    batch = toy.collect(run, chosen, toy.split_for(base, chosen.rows).train[:8])
    return chosen, run, batch


def gradients(chosen, run, batch, max_tokens=100_000) -> dict[str, Tensor]:
    for model in run.models.values():
        model.zero_grad()
    accumulate(chosen, lambda part: chosen.optimize(run, part), batch, max_tokens, backward=True)
    return {
        f"{role}.{key}": p.grad.clone()
        for role, model in run.models.items()
        for key, p in model.named_parameters()
        if p.grad is not None
    }


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    largest = max(float(x.abs().max()) for x in ours.values())
    assert largest > 0
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-4, atol=1e-5 * largest, msg=key)


@every_variant
@pytest.mark.parametrize("max_tokens", [1, 100, 250])
def test_the_gradient_is_the_same_for_every_microbatch_size(setup, max_tokens):
    chosen, run, batch = setup
    assert len(list(microbatches(batch, max_tokens))) > 1
    assert_same(gradients(chosen, run, batch), gradients(chosen, run, batch, max_tokens))


@every_method
@pytest.mark.parametrize(("left", "right"), [(0, 7), (5, 0), (3, 4)])
def test_the_gradient_is_the_same_for_any_padding(setup, left, right):
    chosen, run, batch = setup
    width = batch.tokens.shape[1]

    def pad(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, (left, right), value=1) if x.dim() > 1 and x.shape[1] == width else x

    padded = batch.map(pad)
    masks = {key: torch.nn.functional.pad(getattr(batch, key), (left, right)) for key in ("valid", "acted")}
    padded = replace(padded, **masks)
    ours = gradients(chosen, run, batch)
    # Past `select`, which would cut the padding off again.
    for model in run.models.values():
        model.zero_grad()
    count = {"token": int(batch.acted.sum()), "row": len(batch), "unit": len(batch.unit.unique())}[chosen.per]
    (chosen.optimize(run, padded).total / count).backward()
    theirs = {
        f"{role}.{key}": p.grad.clone()
        for role, model in run.models.items()
        for key, p in model.named_parameters()
        if p.grad is not None
    }
    assert_same(ours, theirs)


@every_variant
def test_the_gradient_does_not_depend_on_the_order_of_the_units(setup):
    chosen, run, batch = setup
    parts = minibatches(batch, 8, torch.Generator().manual_seed(3))
    shuffled = torch.cat([part.unit for part in parts]).unique_consecutive()
    rows = torch.cat([(batch.unit == unit).nonzero().flatten() for unit in shuffled])
    assert rows.tolist() != list(range(len(batch)))
    assert_same(gradients(chosen, run, batch), gradients(chosen, run, batch.select(rows)))


@every_method
def test_no_gradient_comes_from_outside_what_was_acted(setup):
    chosen, run, batch = setup
    calls: list[tuple[str, Tensor, Tensor]] = []  # role, tokens [b, t] and hidden states [b, t, H] of a forward pass

    def keep(role):
        def hook(module, args, kwargs, output):
            if output.last_hidden_state.requires_grad:  # the engine also tries the head, without gradients
                output.last_hidden_state.retain_grad()
                calls.append((role, kwargs["input_ids"], output.last_hidden_state))

        return hook

    for role, model in run.models.items():
        if chosen.roles[role].train:
            model.base_model.register_forward_hook(keep(role), with_kwargs=True)
    chosen.optimize(run, batch).total.backward()
    # A token's log-prob, and the value before it, come from the position before; a row's score from its last token,
    # and a step's from its own end, which is what is acted there.
    before = torch.zeros_like(batch.acted)
    before[:, :-1] = batch.acted[:, 1:]
    last = torch.zeros_like(batch.acted)
    last[torch.arange(len(batch)), batch.valid.long().cumsum(1).argmax(1)] = True
    assert {role for role, *_ in calls} == {role for role, asked in chosen.roles.items() if asked.train}
    for role, tokens, hidden in calls:
        scores = chosen.roles[role].head == "scalar" and chosen.rows != "prompt"
        allowed = before if not scores else batch.acted if chosen.rows == "steps" else last
        used = hidden.grad.abs().sum(-1) > 0
        assert used.any()
        width = tokens.shape[1]  # a pass holds some of the rows, without the columns that only pad them
        for row, ids in zip(used, tokens, strict=True):
            same = (batch.tokens[:, :width] == ids).all(1)
            assert same.any()
            assert not (row & ~allowed[same][:, :width].any(0)).any(), role


@every_method
def test_frozen_roles_stay_as_they_are_and_trained_ones_move(setup):
    chosen, run, batch = setup
    before = {role: [p.clone() for p in model.parameters()] for role, model in run.models.items()}
    trained = [p for model in run.models.values() for p in model.parameters() if p.requires_grad]
    gradients(chosen, run, batch)
    torch.optim.SGD(trained, lr=1.0).step()
    for role, model in run.models.items():
        same = all(torch.equal(p, q) for p, q in zip(model.parameters(), before[role], strict=True))
        assert same != chosen.roles[role].train, role


@every_method
def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(base, name):
    def once(seed: int) -> dict[str, Tensor]:
        chosen = toy.method(name)
        run = toy.run_for(base, chosen, seed=seed)
        batch = toy.collect(run, chosen, toy.split_for(base, chosen.rows).train[:8])
        return gradients(chosen, run, batch)

    first, second, other = once(0), once(0), once(1)
    assert all(torch.equal(first[key], second[key]) for key in first)
    sampled = toy.method(name).rows == "prompt"
    assert sampled == any(not torch.equal(first[key], other[key]) for key in first)


@every_method
def test_a_batch_holds_tensors_with_one_row_for_each_of_its_rows(setup):
    _, _, batch = setup
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            assert len(value) == len(batch), field.name


@every_method
def test_settings_survive_a_round_trip(setup):
    chosen, _, _ = setup
    assert type(chosen)(**chosen.model_dump(mode="json")) == chosen


@every_method
def test_the_exported_role_is_a_trained_one(setup):
    chosen, _, _ = setup
    assert chosen.roles[exported_role(chosen.roles)].train
