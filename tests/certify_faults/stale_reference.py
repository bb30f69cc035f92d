"""The reference is a copy of the policy from a few steps ago, not the model that the phase started from."""

from alignlab import hookimpl

EVERY = 3


@hookimpl(wrapper=True)
def reward_stage(run, method, batch):
    steps = run.state.get("steps", 0)
    if run.train:
        run.state["steps"] = steps + 1
        if steps % EVERY == 0:
            run.models["ref"].load_state_dict(run.models["policy"].state_dict())
    return (yield)
