"""Every hook of alignlab.hooks is in docs/hooks.md, whose example fits it, and is called by a test here."""

import inspect
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from alignlab.hooks import FAMILIES, PROJECT, Events, Registration, Stages
from alignlab.ops import implementations
from alignlab.plugins import Plugins
from alignlab.plugins.found import REGISTERS

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "hooks.md").read_text()
EXAMPLES = dict(re.findall(r"^### (\w+)\n.*?^```python\n(.*?)^```", DOCS, flags=re.MULTILINE | re.DOTALL))


def names(*families):
    return [name for family in families for name in vars(family) if not name.startswith("_")]


def example(hook):
    module = types.ModuleType(f"example_{hook}")
    exec(EXAMPLES[hook], vars(module))
    return module


def test_every_hook_is_in_the_docs_and_nothing_else():
    assert re.findall(r"^### (\w+)$", DOCS, flags=re.MULTILINE) == names(*FAMILIES)
    assert EXAMPLES.keys() == set(names(*FAMILIES))


def signature(hook):
    (function,) = (vars(family)[hook] for family in FAMILIES if hook in vars(family))
    found = inspect.signature(function)
    return str(found.replace(parameters=list(found.parameters.values())[1:])).replace("'", "")  # without self


def test_the_docs_have_the_exact_signature_of_every_hook():
    assert re.findall(r"^### \w+\n\n`(.+)`$", DOCS, flags=re.MULTILINE) == [
        f"{hook}{signature(hook)}" for hook in names(*FAMILIES)
    ]


def test_the_docs_say_in_which_file_a_hook_is_called_and_it_is():
    called = re.findall(r"^### (\w+)\n\n`.+`\n\nCalled by `(alignlab/\S+)`, \w+", DOCS, flags=re.MULTILINE)
    assert [hook for hook, _ in called] == names(*FAMILIES)
    for hook, file in called:
        caller = (ROOT / file).read_text()
        assert "in REGISTERS.items()" in caller if hook in REGISTERS.values() else f'"{hook}"' in caller, (hook, file)


@pytest.mark.parametrize("hook", names(*FAMILIES))
def test_the_example_in_the_docs_implements_the_hook(hook):
    module, plugins = example(hook), Plugins()
    plugins.manager.register(module)
    plugins.manager.check_pending()
    (implementation,) = getattr(plugins.manager.hook, hook).get_hookimpls()
    assert implementation.function is getattr(module, hook)
    assert bool(implementation.wrapper) == (hook in names(Stages))


def test_every_hook_has_words_on_when_it_is_called_or_what_it_does():
    assert all(getattr(family, name).__doc__ for family in FAMILIES for name in names(family))
    assert all(getattr(family, name).alignlab_spec for family in FAMILIES for name in names(family))


@pytest.mark.parametrize("hook", names(Registration))
def test_what_is_registered_in_the_docs_is_found_by_kind_and_name(hook, distribution):
    kind = {"register_data": "data"}.get(hook, hook.removeprefix("register_").removesuffix("s"))
    (registered,) = getattr(example(hook), hook)()
    distribution("alignlab-docs", "2.0", {f"{kind}.{registered.name}": "docs_example"}, docs_example=EXAMPLES[hook])
    plugins = Plugins()
    found = plugins.get(kind, registered.name)
    assert found.name == registered.name
    assert plugins.used() == [
        {"kind": kind, "name": registered.name, "distribution": "alignlab-docs", "version": "2.0"}
    ]
    if kind == "kernel":
        assert implementations("gae")[-1] == "mine"


@pytest.mark.parametrize(
    ("hook", "argument"), [("data_stage", "records"), ("reward_stage", "batch"), ("optimizer_stage", "batch")]
)
def test_a_wrapper_of_a_stage_gets_its_arguments_and_the_methods_result(hook, argument, distribution):
    source = f"""
    from types import SimpleNamespace
    from alignlab import hookimpl
    seen = []

    @hookimpl(wrapper=True)
    def {hook}(run, method, {argument}):
        inner = yield
        seen.append((run, method, {argument}, inner.note))
        return SimpleNamespace(**{{**vars(inner), "note": "outer"}})
    """
    distribution("wrapping", entry_points={"around": "around_stage"}, around_stage=source)
    plugins = Plugins()
    plugins.use("around")
    result = types.SimpleNamespace(tokens=0, valid=0, acted=0, unit=0, total=0, metrics={}, note="inner")
    got = plugins.stage(hook, lambda run, given: result, run="run", method="method", given="given")
    assert sys.modules["around_stage"].seen == [("run", "method", "given", "inner")]
    assert got.note == "outer"


EVENTS = {
    "on_run_start": {"manifest": {"seed": 3}},
    "on_step_end": {"phase": "sft", "step": 1, "metrics": {"loss": 2.5}},
    "on_evaluate": {"phase": "sft", "step": 1, "metrics": {"num": 7.0}},
    "on_checkpoint": {"phase": "sft", "step": 1, "path": Path("here")},
    "on_run_end": {"output": Path("runs/x")},
}


@pytest.mark.parametrize("hook", names(Events))
def test_an_observer_hears_an_event_and_what_it_returns_is_ignored(hook, distribution):
    arguments = ", ".join(EVENTS[hook])
    source = f"""
    from alignlab import hookimpl
    seen = []

    @hookimpl
    def {hook}({arguments}):
        seen.append(dict({", ".join(f"{name}={name}" for name in EVENTS[hook])}))
        return "ignored"
    """
    distribution("watching", entry_points={"watch": "watch_events"}, watch_events=source)
    plugins = Plugins()
    plugins.use("watch")
    assert plugins.event(hook, **EVENTS[hook]) is None
    assert sys.modules["watch_events"].seen == [EVENTS[hook]]


def test_a_plugin_may_leave_out_arguments(distribution):
    source = """
    from alignlab import hookimpl
    steps = []

    @hookimpl
    def on_step_end(step):
        steps.append(step)
    """
    distribution("short", entry_points={"short": "short_observer"}, short_observer=source)
    plugins = Plugins()
    plugins.use("short")
    plugins.event("on_step_end", phase="sft", step=4, metrics={})
    assert sys.modules["short_observer"].steps == [4]


def test_hooks_and_plugins_import_no_torch():
    code = "import sys, alignlab.hooks, alignlab.plugins; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert PROJECT == "alignlab"
