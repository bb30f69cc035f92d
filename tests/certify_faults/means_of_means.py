"""Every microbatch is averaged by itself, so that a token counts the more, the fewer are beside it."""

from dataclasses import replace

from alignlab import hookimpl


@hookimpl(wrapper=True)
def optimizer_stage(run, method, batch):
    loss = yield
    return replace(loss, total=loss.total / batch.acted.sum())
