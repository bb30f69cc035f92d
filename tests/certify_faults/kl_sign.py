"""The KL's sign is turned: the policy is paid for leaving the reference."""

from alignlab import hookimpl
from certify_faults import replaced


def turned(logp):
    def wrong(role, batch, **settings):
        found = logp(role, batch, **settings)
        return 2 * logp("policy", batch, **settings) - found if role == "ref" else found

    return wrong


@hookimpl(wrapper=True)
def reward_stage(run, method, batch):
    with replaced(run, "logp", turned):
        return (yield)
