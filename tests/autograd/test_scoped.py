"""Settings that hold inside a block: entered again, decorated, in steps, in several threads."""

import ast
import asyncio
import threading
from pathlib import Path

import pytest

import tinygrad_llm as tg
from tinygrad_llm.autograd.modes import Observer, current
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.explain.small_ops import small_ops
from tinygrad_llm.nn import init

SCOPES = {
    "no_grad": (tg.no_grad, tg.is_grad_enabled),
    "enable_grad": (tg.enable_grad, lambda: "nothing differs"),
    "use_kernels": (lambda: tg.use_kernels("off"), lambda: current.kernels),
    "deterministic": (tg.deterministic, lambda: current.deterministic),
    "detect_anomaly": (tg.detect_anomaly, lambda: current.observer),
    "trace": (tg.trace, lambda: current.observer),
    "no_init": (init.no_init, init.is_skipping),
    "small_ops": (small_ops, lambda: current.composed),
}
every_scope = pytest.mark.parametrize(("make", "look"), SCOPES.values(), ids=SCOPES)


@every_scope
def test_one_object_may_be_entered_inside_itself(make, look):
    before, scope = look(), make()
    with scope:
        inside = look()
        with scope, scope:
            assert look() == inside
        assert look() == inside
    assert look() == before
    with pytest.raises(KeyError), scope, scope:
        raise KeyError
    assert look() == before


@every_scope
def test_one_object_may_be_entered_in_two_threads(make, look):
    """The first to enter leaves first, so the second must not put back what the first found."""
    scope, seen = make(), {}
    steps = [threading.Event() for _ in range(3)]

    def first():
        before = look()
        with scope:
            steps[0].set()
            steps[1].wait(10)
        seen["first"] = look() == before
        steps[2].set()

    def second():
        before = look()
        steps[0].wait(10)
        seen["not entered here"] = look() == before
        with scope:
            inside = look()
            steps[1].set()
            steps[2].wait(10)
            seen["still inside"] = look() == inside
        seen["second"] = look() == before

    threads = [threading.Thread(target=task) for task in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen.values()) == {True}
    assert len(seen) == 4


@every_scope
def test_as_a_decorator_of_a_function(make, look):
    with make():
        inside = look()

    @make()
    def function(x, *, y=1):
        """Says what it sees."""
        return x, y, look()

    before = look()
    assert function(5, y=3)[:2] == (5, 3)
    assert function(5)[2] == inside or isinstance(inside, Observer)
    assert look() == before
    assert (function.__name__, function.__doc__) == ("function", "Says what it sees.")


@pytest.mark.parametrize("decorate", [tg.no_grad, tg.no_grad()])
def test_with_and_without_brackets(decorate):
    x = tg.tensor([1.0], requires_grad=True)

    @decorate
    def function():
        return (x * 2).requires_grad

    assert not function()
    assert tg.is_grad_enabled()
    with tg.no_grad():
        assert tg.enable_grad(lambda: (x * 2).requires_grad)()
        assert tg.no_grad(tg.enable_grad(lambda: (x * 2).requires_grad))()


def test_brackets_are_left_out_of_the_others_too():
    assert tg.deterministic(lambda: current.deterministic)()
    assert init.no_init(init.is_skipping)()
    with pytest.raises(TypeError, match="mode"):
        tg.use_kernels(lambda: None)
    with pytest.raises(ConfigError, match=r"no_grad: can decorate a function, got 3"):
        tg.no_grad()(3)


@pytest.mark.parametrize("decorate", [tg.no_grad, tg.no_grad()])
def test_each_step_of_a_generator_is_inside_and_its_caller_is_not(decorate):
    seen = []

    @decorate
    def generator(first):
        seen.append(tg.is_grad_enabled())
        sent = yield first
        seen.append(tg.is_grad_enabled())
        try:
            yield sent
        except KeyError:
            seen.append(tg.is_grad_enabled())
        try:
            yield "last"
        finally:
            seen.append(tg.is_grad_enabled())
        return "result"

    steps = generator(1)
    assert next(steps) == 1
    assert tg.is_grad_enabled()
    assert steps.send(2) == 2
    assert tg.is_grad_enabled()
    assert steps.throw(KeyError()) == "last"
    with pytest.raises(StopIteration, match="result"):
        next(steps)
    assert seen == [False] * 4
    assert tg.is_grad_enabled()

    abandoned = generator(1)
    next(abandoned)
    abandoned.send(2)
    abandoned.throw(KeyError())
    abandoned.close()
    assert seen == [False] * 8
    failing = generator(1)
    next(failing)
    with pytest.raises(ValueError, match="from outside"):
        failing.throw(ValueError("from outside"))
    assert tg.is_grad_enabled()


def test_two_decorators_of_a_generator():
    @tg.enable_grad()
    @tg.no_grad()
    def generator():
        yield tg.is_grad_enabled()

    assert list(generator()) == [False]


def test_two_generators_in_turn_do_not_disturb_each_other():
    @tg.no_grad()
    def off():
        for _ in range(3):
            yield tg.is_grad_enabled()

    @tg.enable_grad()
    def on():
        for _ in range(3):
            yield tg.is_grad_enabled()

    assert list(zip(off(), on(), strict=True)) == [(False, True)] * 3
    assert tg.is_grad_enabled()


def test_a_coroutine_is_inside_between_its_waits_and_others_are_not():
    seen = {"inside": [], "beside": []}

    @tg.no_grad()
    async def inside():
        for _ in range(3):
            seen["inside"].append(tg.is_grad_enabled())
            await asyncio.sleep(0)
        return "done"

    async def beside():
        for _ in range(3):
            seen["beside"].append(tg.is_grad_enabled())
            await asyncio.sleep(0)

    async def both():
        return await asyncio.gather(inside(), beside())

    assert asyncio.run(both())[0] == "done"
    assert seen == {"inside": [False] * 3, "beside": [True] * 3}


def test_an_asynchronous_generator_is_refused_with_the_way_out():
    async def generator():
        yield 1

    with pytest.raises(ConfigError, match=r"with no_grad\(\):` inside it"):
        tg.no_grad()(generator)


def test_a_generator_that_another_thread_closes_leaves_that_thread_as_it_is():
    def generator():
        with tg.no_grad():
            yield

    steps = generator()
    starter = threading.Thread(target=lambda: next(steps))
    starter.start()
    starter.join()
    steps.close()
    assert tg.is_grad_enabled()


def test_an_observer_that_is_entered_twice_sees_each_op_once():
    class Names(Observer):
        def __init__(self):
            self.seen = []

        def after_forward(self, node, arrays, out):
            self.seen.append(node.name)

    names, others = Names(), Names()
    with names, others, names:
        tg.tensor([1.0]).exp()
    assert names.seen == others.seen == ["exp"]
    assert current.observer is None


# Names that functions assign to in their module. They belong to the process by their nature: what
# is made once, locks, and the number of threads. A switch that changes results does not: two
# threads would put back what the other one has set (see Scoped).
OF_THE_PROCESS = {
    "backend/precision.py": {"_precision", "_told"},
    "backend/threads.py": {"_busy", "_chosen", "_workers"},
    "data/tokenizing.py": {"_worker_tokenizer"},
    "kernels/_driver.py": {"_driver"},
    "kernels/_interpreter.py": {"_lock"},
}


def test_no_setting_is_a_global_of_its_module():
    root = Path(tg.__file__).parent
    files = [*root.rglob("*.py"), *(root.parent / "kernels").glob("*.py")]
    found = {}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Global):
                inside = path.relative_to(root if root in path.parents else root.parent)
                found.setdefault(inside.as_posix(), set()).update(node.names)
    assert found == OF_THE_PROCESS
