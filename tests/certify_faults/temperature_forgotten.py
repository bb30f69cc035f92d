"""Answers are sampled at a temperature, and their log-probs are those of another."""

from alignlab import hookimpl
from certify_faults import replaced


def forgetful(logp):
    return lambda role, batch, **settings: logp(role, batch, **{**settings, "temperature": 1.0})


@hookimpl(wrapper=True)
def reward_stage(run, method, batch):
    with replaced(run, "logp", forgetful):
        return (yield)


@hookimpl(wrapper=True)
def optimizer_stage(run, method, batch):
    with replaced(run, "logp", forgetful):
        return (yield)
