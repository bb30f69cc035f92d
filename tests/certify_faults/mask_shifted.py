"""The mask of what the policy chose stands one token too far to the right."""

from dataclasses import replace

from alignlab import hookimpl


@hookimpl(wrapper=True)
def data_stage(run, method, records):
    batch = yield
    return replace(batch, acted=batch.acted.roll(1, 1) & batch.valid)
