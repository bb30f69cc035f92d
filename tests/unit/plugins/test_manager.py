"""Plugins are real distributions on sys.path: modules and dist-info that importlib.metadata finds."""

import sys
import types

import pytest

from alignlab import __version__
from alignlab.errors import DataError, PluginError
from alignlab.hooks import hookimpl
from alignlab.plugins import Plugins

METHOD = """
from alignlab import hookimpl

class {cls}:
    name = "{name}"

    def optimize(self, run, batch):
        return batch["a missing key"]

@hookimpl
def register_methods():
    return [{cls}]
"""
LOSS = types.SimpleNamespace(total=1.0, metrics={})


def method(name):
    return METHOD.format(cls=name.title(), name=name)


def builtin(kind="methods", *names):
    """A module that registers as the core's own does."""
    module = types.ModuleType("core_things")
    objects = [types.SimpleNamespace(name=name) for name in names]
    setattr(module, f"register_{kind}", hookimpl(lambda: objects))
    return module


def error_of(function, *arguments, **keywords):
    with pytest.raises(PluginError) as raised:
        function(*arguments, **keywords)
    return raised.value


# Names


def test_a_name_imports_its_own_module_and_no_other(distribution):
    points = {"method.fast": "fast_method", "method.slow": "slow_method"}
    distribution("speeds", "2.1", points, fast_method=method("fast"), slow_method=method("slow"))
    plugins = Plugins()
    assert plugins.used() == []
    assert plugins.get("method", "fast").name == "fast"
    assert "fast_method" in sys.modules
    assert "slow_method" not in sys.modules
    assert plugins.used() == [{"kind": "method", "name": "fast", "distribution": "speeds", "version": "2.1"}]


def test_the_same_object_is_returned_twice(distribution):
    distribution("speeds", entry_points={"method.fast": "fast_method"}, fast_method=method("fast"))
    plugins = Plugins()
    assert plugins.get("method", "fast") is plugins.get("method", "fast")


def test_what_the_core_registers_is_there_and_not_among_the_used():
    plugins = Plugins(builtin("trackers", "paper"))
    assert plugins.get("tracker", "paper").name == "paper"
    assert plugins.used() == []


def test_an_unknown_name_names_the_nearest_of_metadata_and_core_and_the_place(distribution):
    distribution("speeds", entry_points={"tracker.fast": "fast"})
    plugins = Plugins(builtin("trackers", "paper"))
    error = error_of(plugins.get, "tracker", "fasst", where="r.yaml, line 3: trackers[0]")
    assert str(error) == (
        "there is no tracker 'fasst'\n"
        "  where: r.yaml, line 3: trackers[0]\n"
        "  to do: did you mean 'fast'? (`alignlab plugins list` shows what is installed)"
    )
    assert "did you mean 'paper'?" in str(error_of(plugins.get, "tracker", "papr"))


def test_an_unknown_plugin_of_a_recipes_list_names_the_nearest_entry_point(distribution):
    distribution("speeds", entry_points={"timer": "timer", "method.fast": "fast"})
    assert "there is no plugin 'tmer'\n  to do: did you mean 'timer'?" in str(error_of(Plugins().use, "tmer"))
    assert "did you mean 'method.fast'?" in str(error_of(Plugins().use, "metod.fast"))


def test_one_name_of_two_distributions_names_both_and_the_command_that_mends_it(distribution):
    distribution("one", "1.0", {"method.fast": "one_fast"}, one_fast=method("fast"))
    distribution("two", "2.0", {"method.fast": "two_fast"}, two_fast=method("fast"))
    assert str(error_of(Plugins().get, "method", "fast")) == (
        "two plugins register the method 'fast': one 1.0 and two 2.0\n  to do: pip uninstall one or two"
    )
    assert "one_fast" not in sys.modules


def test_a_method_with_the_name_of_alignlabs_own_names_both(distribution):
    distribution("rival", "0.1", {"method.ppo": "rival_ppo"}, rival_ppo=method("ppo"))
    assert str(error_of(Plugins().get, "method", "ppo")) == (
        f"two plugins register the method 'ppo': alignlab {__version__} and rival 0.1\n  to do: pip uninstall rival"
    )


def test_a_plugin_with_the_name_of_something_in_the_core_names_both(distribution):
    distribution("rival", "0.1", {"data.rows": "rival_rows"})
    error = error_of(Plugins(builtin("data", "rows")).get, "data", "rows")
    assert error.what == f"two plugins register the data source 'rows': alignlab {__version__} and rival 0.1"


def test_a_name_that_a_plugin_registers_beside_its_own_is_doubled_too(distribution):
    distribution("one", "1.0", {"method.fast": "one_fast"}, one_fast=method("fast"))
    both = method("slow").replace("[Slow]", "[Slow, type('Again', (), {'name': 'fast'})]")
    distribution("two", "2.0", {"method.slow": "two_slow"}, two_slow=both)
    plugins = Plugins()
    plugins.get("method", "fast")
    assert error_of(plugins.get, "method", "slow").what == "two plugins register the method 'fast': one 1.0 and two 2.0"


def test_an_object_that_is_handed_over_goes_before_what_is_installed_and_is_called_by_what_it_is(distribution):
    distribution("speeds", "2.1", {"method.fast": "fast_method"}, fast_method=method("fast"))
    plugins, mine = Plugins(), type("Mine", (), {"name": "fast"})
    assert str(plugins.owner("method", "fast")) == "method 'fast'"
    plugins.offer("method", mine)
    assert plugins.get("method", "fast") is mine
    assert str(plugins.owner("method", "fast")) == f"plugin method 'fast' of no distribution (module {__name__})"
    assert [one["distribution"] for one in plugins.used()] == ["no distribution"]


# Plugins that are broken


def test_a_plugin_that_cannot_be_imported_is_named_with_what_to_do(distribution):
    distribution("torn", "0.3", {"method.fast": "torn_fast"}, torn_fast="import a_package_that_is_not_there")
    error = error_of(Plugins().get, "method", "fast")
    assert str(error) == (
        "plugin method 'fast' of torn 0.3 (module torn_fast) cannot be imported: "
        "ModuleNotFoundError: No module named 'a_package_that_is_not_there'\n"
        "  to do: pip install -U torn, or pip uninstall torn"
    )
    assert isinstance(error.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize("module", ["not_there", "not_there.deeper", "not_there:thing"])
def test_an_entry_point_to_a_missing_module_says_that_it_is_the_entry_point(distribution, module):
    distribution("torn", "0.3", {"method.fast": module})
    assert str(error_of(Plugins().get, "method", "fast")) == (
        f"plugin method 'fast' of torn 0.3 (module {module}) cannot be imported: "
        "its entry point names a module that is not installed, 'not_there'\n"
        "  to do: pip install -U torn, or pip uninstall torn; its author: mend method.fast in pyproject.toml"
    )


def test_an_entry_point_to_a_missing_part_of_a_module_names_the_part(distribution):
    distribution("torn", "0.3", {"method.fast": "half_there.fast"}, half_there="")
    assert "names a module that is not installed, 'half_there.fast'" in error_of(Plugins().get, "method", "fast").what


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit('no licence')", "SystemExit: no licence"),
        ("def", "SyntaxError: invalid syntax (raising.py, line 1)"),
    ],
)
def test_a_plugin_that_raises_on_import_is_named_with_what_it_raised(distribution, source, said):
    distribution("torn", "0.3", {"method.fast": "raising"}, raising=source)
    assert str(error_of(Plugins().get, "method", "fast", where="r.yaml, line 3")) == (
        f"plugin method 'fast' of torn 0.3 (module raising) cannot be imported: {said}\n"
        "  where: r.yaml, line 3\n"
        "  to do: pip install -U torn, or pip uninstall torn"
    )


def test_a_plugin_for_another_alignlab_is_not_imported_and_the_error_names_range_version_and_command(distribution):
    distribution("newer", "2.1", {"method.fast": "newer_fast"}, requires=["alignlab>=90,<91"], newer_fast="1 / 0")
    assert str(error_of(Plugins().get, "method", "fast")) == (
        "plugin method 'fast' of newer 2.1 (module newer_fast) is for alignlab >=90,<91, "
        f"and this is alignlab {__version__}\n"
        "  to do: pip install -U newer, or pip install 'alignlab>=90,<91'"
    )
    assert "newer_fast" not in sys.modules


def test_a_misspelt_hook_names_the_nearest(distribution):
    source = "from alignlab import hookimpl\n\n@hookimpl\ndef on_stepend(step):\n    pass\n"
    distribution("typo", "0.3", {"typo": "typo_hook"}, typo_hook=source)
    assert str(error_of(Plugins().use, "typo")) == (
        "plugin hooks 'typo' of typo 0.3 (module typo_hook) does not fit: "
        "it implements 'on_stepend', which is no hook\n"
        "  to do: did you mean 'on_step_end'?"
    )


def test_a_hook_with_an_argument_that_there_is_not_names_the_argument(distribution):
    source = "from alignlab import hookimpl\n\n@hookimpl\ndef on_step_end(loss):\n    pass\n"
    distribution("typo", entry_points={"typo": "typo_argument"}, typo_argument=source)
    assert str(error_of(Plugins().use, "typo")) == (
        "plugin hooks 'typo' of typo 1.0 (module typo_argument) does not fit: "
        "its on_step_end wants 'loss', which the hook does not give\n"
        "  to do: take some of its arguments: phase, step, metrics (docs/hooks.md)"
    )


def test_a_hook_without_its_mark_is_an_error(distribution):
    distribution("unmarked", entry_points={"unmarked": "unmarked_hook"}, unmarked_hook="def on_step_end(step): ...")
    error = error_of(Plugins().use, "unmarked")
    assert "has a function on_step_end without @hookimpl" in error.what


def test_a_stage_that_does_not_wrap_is_an_error(distribution):
    source = "from alignlab import hookimpl\n\n@hookimpl\ndef data_stage(run, records):\n    pass\n"
    distribution("bold", entry_points={"bold": "bold_stage"}, bold_stage=source)
    error = error_of(Plugins().use, "bold")
    assert "implements data_stage without wrapping it" in error.what
    assert "@hookimpl(wrapper=True)" in error.do


def test_an_entry_point_that_registers_nothing_of_its_name_says_what_it_registers(distribution):
    distribution("wrong", "0.3", {"method.fast": "wrong_name"}, wrong_name=method("fats"))
    assert str(error_of(Plugins().get, "method", "fast")) == (
        "plugin method 'fast' of wrong 0.3 (module wrong_name) registers no method of that name\n"
        "  to do: let its register_methods() return an object whose `name` is 'fast'; did you mean 'fats'?"
    )


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("None", "register_methods of plugin method 'fast' of odd 1.0 (module odd_fast) returned None"),
        ("'fast'", "returned 'fast'"),
        ("[3]", "returned 3, which has no `name`"),
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        ("(1 / 0 for _ in 'a')", "raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_registration_that_returns_no_list_of_named_objects_is_an_error(distribution, returned, said):
    source = f"from alignlab import hookimpl\n\n@hookimpl\ndef register_methods():\n    return {returned}\n"
    distribution("odd", entry_points={"method.fast": "odd_fast"}, odd_fast=source)
    assert said in error_of(Plugins().get, "method", "fast").what


def test_a_broken_plugin_that_is_not_used_is_in_nobodys_way(distribution):
    distribution("torn", entry_points={"method.torn": "torn_method"}, torn_method="1 / 0")
    distribution("speeds", entry_points={"method.fast": "fast_method"}, fast_method=method("fast"))
    assert Plugins().get("method", "fast").name == "fast"


def test_two_entry_points_to_one_module_are_both_used_and_called_once(distribution):
    source = method("fast") + "steps = []\n\n@hookimpl\ndef on_step_end(step):\n    steps.append(step)\n"
    distribution("both", entry_points={"method.fast": "both_things", "timer": "both_things"}, both_things=source)
    plugins = Plugins()
    plugins.use("timer")
    assert plugins.get("method", "fast").name == "fast"
    plugins.use("method.fast")
    plugins.event("on_step_end", phase="p", step=1, metrics={})
    assert sys.modules["both_things"].steps == [1]
    assert {one["name"] for one in plugins.used()} >= {"timer"}


def test_a_kernel_of_an_op_that_there_is_not_is_the_plugins_error(distribution):
    source = """
    from alignlab import hookimpl
    from alignlab.ops import Kernel

    @hookimpl
    def register_kernels():
        return [Kernel("gea", "mine", print)]
    """
    distribution("odd", entry_points={"kernel.mine": "odd_kernel"}, odd_kernel=source)
    error = error_of(Plugins().use, "kernel.mine")
    assert "register_kernels of plugin kernel 'mine' of odd 1.0 (module odd_kernel): there is no op 'gea'" in error.what


# Calls


WRAPPER = """
from alignlab import hookimpl

@hookimpl(wrapper=True)
def optimizer_stage(batch):
    {before}
    loss = yield
    {after}
    return loss
"""


def wrapped(distribution, before="pass", after="pass", name="wrapping"):
    module = f"{name}_stage"
    source = WRAPPER.format(before=before, after=after)
    distribution(name, "1.5", {name: module}, **{module: source})
    plugins = Plugins()
    plugins.use(name)
    return plugins


class Own:
    """A method that no plugin registered."""

    name = "own"

    def optimize(self, run, batch):
        return LOSS


def optimize(plugins, innermost=None, method=None):
    method = method or Own()
    return plugins.stage("optimizer_stage", innermost or method.optimize, run=None, method=method, given={"tokens": 3})


def test_without_wrappers_a_stage_is_the_methods_own():
    assert optimize(Plugins(), lambda run, batch: types.SimpleNamespace(total=batch["tokens"], metrics={})).total == 3


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_wrapper_that_raises_is_named_with_distribution_version_and_hook(distribution, place):
    plugins = wrapped(distribution, **{place: "batch['nothing']"})
    error = error_of(optimize, plugins)
    assert str(error) == (
        "optimizer_stage of plugin hooks 'wrapping' of wrapping 1.5 (module wrapping_stage) "
        "raised KeyError: 'nothing'\n"
        "  to do: --traceback shows where"
    )
    assert isinstance(error.__cause__, KeyError)


def test_a_method_that_raises_inside_a_wrapper_is_named_not_the_wrapper(distribution):
    distribution("speeds", "2.1", {"method.fast": "fast_method"}, fast_method=method("fast"))
    plugins = wrapped(distribution)
    fast = plugins.get("method", "fast")()
    error = error_of(optimize, plugins, fast.optimize, fast)
    assert error.what == (
        "optimizer_stage of plugin method 'fast' of speeds 2.1 (module fast_method) raised KeyError: 'a missing key'"
    )


def test_of_two_wrappers_the_one_that_raised_is_named(distribution):
    wrapped(distribution, name="calm")
    plugins = wrapped(distribution, before="1 / 0", name="wild")
    plugins.use("calm")
    assert "plugin hooks 'wild' of wild 1.5" in error_of(optimize, plugins).what


def test_errors_of_alignlab_and_interrupts_pass_through_unchanged(distribution):
    mine = DataError("a bad row", where="data.jsonl, row 3")

    def raises(error):
        def own(run, batch):
            raise error

        return own

    plugins = wrapped(distribution)
    with pytest.raises(DataError) as raised:
        optimize(plugins, raises(mine))
    assert raised.value is mine
    with pytest.raises(KeyboardInterrupt):
        optimize(plugins, raises(KeyboardInterrupt()))


def test_an_exception_that_came_through_no_plugin_is_nobodys(distribution):
    def own(run, batch):
        raise RuntimeError("the engine's")

    with pytest.raises(RuntimeError, match="the engine's"):
        optimize(Plugins(), own)


@pytest.mark.parametrize(("after", "came"), [("loss = None", "None"), ("loss = 3.5", "3.5")])
def test_a_wrapper_that_returns_no_loss_is_an_error_that_names_the_wrappers(distribution, after, came):
    error = error_of(optimize, wrapped(distribution, after=after))
    assert error.what == f"optimizer_stage returned {came}, wanted a Loss"
    assert error.where == "plugin hooks 'wrapping' of wrapping 1.5 (module wrapping_stage)"


def test_a_method_that_returns_no_loss_is_named_even_inside_a_wrapper(distribution):
    distribution("speeds", "2.1", {"method.fast": "fast_method"}, fast_method=method("fast"))
    plugins = wrapped(distribution)
    fast = plugins.get("method", "fast")()
    error = error_of(optimize, plugins, lambda run, batch: None, fast)
    assert error.where == "plugin method 'fast' of speeds 2.1 (module fast_method)"
    assert error.do == "let its optimize() return a Loss"


@pytest.mark.parametrize("after", ["yield", "return (yield)"])
def test_a_wrapper_that_yields_twice_is_named(distribution, after):
    error = error_of(optimize, wrapped(distribution, after=after))
    assert "optimizer_stage of plugin hooks 'wrapping' of wrapping 1.5 (module wrapping_stage) raised" in error.what
    assert "second yield" in error.what


def test_an_observer_that_raises_is_named(distribution):
    source = "from alignlab import hookimpl\n\n@hookimpl\ndef on_run_end(output):\n    return output['x']\n"
    distribution("watching", "1.5", {"watch": "watch_end"}, watch_end=source)
    plugins = Plugins()
    plugins.use("watch")
    error = error_of(plugins.event, "on_run_end", output={})
    assert error.what == ("on_run_end of plugin hooks 'watch' of watching 1.5 (module watch_end) raised KeyError: 'x'")
