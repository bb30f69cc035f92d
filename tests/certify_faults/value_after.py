"""The value of a token is that of the state after it, which has seen the token."""

from alignlab import hookimpl
from certify_faults import replaced


def late(value):
    return lambda role, batch: value(role, batch).roll(-1, 1)


@hookimpl(wrapper=True)
def reward_stage(run, method, batch):
    with replaced(run, "value", late):
        return (yield)


@hookimpl(wrapper=True)
def optimizer_stage(run, method, batch):
    with replaced(run, "value", late):
        return (yield)
