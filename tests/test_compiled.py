from __future__ import annotations

import copy
import ctypes
import gc
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core import event
from numba.core.errors import TypingError

import fastmlp
from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.tuning import STACK_BYTES

compiled_only = pytest.mark.skipif(INTERPRETED, reason="users' functions are not compiled in this mode")
TOLERANCE = {"float32": 3e-5, "float64": 1e-12}
HIDDEN = [name for name in reference.ACTIVATIONS if name not in ("softmax", "exp")]


def made(sizes: list[int], activations: Any = "tanh", dtype: Any = "float64", seed: int = 0) -> fastmlp.Model:
    """A model with biases that are not zero."""
    model = fastmlp.Model(sizes, activations=activations, dtype=np.dtype(dtype).name, rng=seed)
    for biases in model.biases:
        biases[...] = np.random.default_rng(seed).uniform(-1, 1, biases.shape)
    return model


def outputs(model: fastmlp.Model, X: np.ndarray) -> np.ndarray:
    return reference.forward(X, model.weights, model.biases, [str(name) for name in model.activations])


def jacobians(model: fastmlp.Model, X: np.ndarray) -> np.ndarray:
    """(rows, outputs, inputs), by the oracle's derivatives."""
    names = [str(name) for name in model.activations]
    zs, _ = reference.layers(X, model.weights, model.biases, names)
    found = np.empty((len(X), model.sizes[-1], model.sizes[0]))
    for k in range(model.sizes[-1]):
        d = np.zeros((len(X), model.sizes[-1]))
        d[:, k] = 1
        for name, z, w in zip(names[::-1], zs[::-1], model.weights[::-1], strict=True):
            d = reference.pull_back(name, z, d) @ np.asarray(w, np.float64).T
        found[:, k] = d
    return found


@numba.njit
def one_by_one(f: Any, X: Any, out: Any) -> None:
    for i in range(X.shape[0]):
        f(X[i], out[i])


@numba.njit
def at_once(f: Any, X: Any, out: Any) -> None:
    f(X, out)


@numba.njit
def derivatives(f: Any, x: Any, g: Any, dx: Any, J: Any) -> None:
    f.pull(x, g, dx)
    f.jacobian(x, J)


# ---- what it computes ------------------------------------------------------------------------------------------------


@pytest.mark.small
@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 70), min_size=2, max_size=5),
    hidden=st.sampled_from(HIDDEN),
    output=st.sampled_from([*HIDDEN, "softmax", "exp"]),
    dtype=st.sampled_from(["float32", "float64"]),
    rows=st.integers(1, 5),
)
def test_computes_what_the_oracle_does(sizes: list[int], hidden: str, output: str, dtype: str, rows: int) -> None:
    model = made(sizes, [hidden] * (len(sizes) - 2) + [output], dtype)
    X = np.random.default_rng(1).uniform(-1, 1, (rows, sizes[0])).astype(dtype)
    G = np.random.default_rng(2).uniform(-1, 1, (rows, sizes[-1])).astype(dtype)
    f = model.compiled()
    assert reference.error(f(X), outputs(model, X), 1.0) < TOLERANCE[dtype]
    wanted = jacobians(model, X)
    if {hidden, output} & {"relu", "leaky_relu"}:  # rows at whose kinks rounding decides are left out
        zs, _ = reference.layers(X, model.weights, model.biases, [str(name) for name in model.activations])
        far = np.all([np.abs(z).min(axis=1) > 1e-4 for z in zs], axis=0)
        X, G, wanted = X[far], G[far], wanted[far]
        if not len(X):
            return
    floor = max(1.0, float(np.abs(wanted).max()))
    assert reference.error(f.jacobian(X), wanted, floor) < 10 * TOLERANCE[dtype]
    assert reference.error(f.pull(X, G), np.einsum("nkj,nk->nj", wanted, G), floor * sizes[-1]) < 10 * TOLERANCE[dtype]


@pytest.mark.small
def test_a_row_is_the_same_alone_and_among_others(dtype: Any, rng: np.random.Generator) -> None:
    f = made([7, 33, 18, 5], "silu", dtype).compiled()
    X, G = rng.standard_normal((40, 7)).astype(dtype), rng.standard_normal((40, 5)).astype(dtype)
    assert np.array_equal(f(X), [f(x) for x in X])
    assert np.array_equal(f.pull(X, G), [f.pull(x, g) for x, g in zip(X, G, strict=True)])
    assert np.array_equal(f.jacobian(X), [f.jacobian(x) for x in X])


@pytest.mark.small
def test_writes_where_it_is_told(dtype: Any, rng: np.random.Generator) -> None:
    f = made([3, 9, 4], dtype=dtype).compiled()
    X, G = rng.standard_normal((6, 3)).astype(dtype), rng.standard_normal((6, 4)).astype(dtype)
    out, dx, J = np.empty((6, 4), dtype), np.empty((6, 3), dtype), np.empty((6, 4, 3), dtype)
    assert f(X, out) is out
    assert f.pull(X, G, dx) is dx
    assert f.jacobian(X, J) is J
    assert np.array_equal(out, f(X))
    assert np.array_equal(dx, f.pull(X, G))
    assert np.array_equal(J, f.jacobian(X))
    one = np.empty(4, dtype)
    assert f(X[2].tolist(), one) is one
    assert np.array_equal(one, out[2])


@compiled_only
def test_compiled_code_gets_the_same(dtype: Any, rng: np.random.Generator) -> None:
    f = made([5, 20, 3], "gelu", dtype).compiled()
    X, G = rng.standard_normal((9, 5)).astype(dtype), rng.standard_normal((9, 3)).astype(dtype)
    for call in (one_by_one, at_once):
        out = np.empty((9, 3), dtype)
        call(f, X, out)
        assert np.array_equal(out, f(X))
    dx, J = np.empty((9, 5), dtype), np.empty((9, 3, 5), dtype)
    derivatives(f, X, G, dx, J)
    assert np.array_equal(dx, f.pull(X, G))
    assert np.array_equal(J, f.jacobian(X))
    derivatives(f, X[1], G[1], dx[0], J[0])
    assert np.array_equal(dx[0], dx[1])
    assert np.array_equal(J[0], J[1])


@pytest.mark.small
def test_custom_activations_and_softmax(rng: np.random.Generator) -> None:
    square = fastmlp.CustomActivation("square", lambda z: z * z, lambda z: 2 * z)
    model = made([3, 6, 4], [square, "softmax"])
    X = rng.standard_normal((5, 3))
    f = model.compiled()
    assert reference.error(f(X), model.predict(X)) < 1e-14
    W1, W2 = model.weights
    z = X @ W1 + model.biases[0]
    e = np.exp(z**2 @ W2 + model.biases[1])
    p = e / e.sum(axis=1, keepdims=True)
    slopes = np.einsum("nk,kl->nkl", p, np.eye(4)) - np.einsum("nk,nl->nkl", p, p)
    wanted = np.einsum("nkl,hl,nh,jh->nkj", slopes, W2, 2 * z, W1)
    assert reference.error(f.jacobian(X), wanted) < 1e-12


@pytest.mark.small
def test_nan_and_infinities_pass_through() -> None:
    f = fastmlp.Model.from_weights([np.eye(3)], [np.zeros(3)], activations=["relu"]).compiled()
    assert np.array_equal(f([np.nan, np.inf, -np.inf]), [np.nan, np.nan, np.nan], equal_nan=True)
    f = fastmlp.Model.from_weights([[[1.0]]], [[0.0]], activations=["relu"]).compiled()
    assert np.array_equal(f([[np.nan], [np.inf], [-np.inf]]), [[np.nan], [np.inf], [0.0]], equal_nan=True)


def test_nets_too_large_for_the_stack(dtype: Any, rng: np.random.Generator) -> None:
    width = STACK_BYTES // dtype.itemsize
    model = made([2, width, 3], "relu", dtype)
    f = model.compiled()
    X = rng.standard_normal((3, 2)).astype(dtype)
    assert reference.error(f(X), outputs(model, X)) < TOLERANCE[dtype.name]
    assert reference.error(f.jacobian(X), jacobians(model, X)) < TOLERANCE[dtype.name]
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda i: f(X), range(40)):
            assert np.array_equal(got, f(X))


# ---- as a value of compiled code -------------------------------------------------------------------------------------


@compiled_only
def test_as_a_global_in_a_tuple_and_with_keywords(rng: np.random.Generator) -> None:
    first, second = made([3, 4, 2]).compiled(), made([3, 50, 2], seed=1).compiled()
    x = rng.standard_normal(3)

    @numba.njit
    def named(x: Any) -> Any:
        out = np.empty(2)
        first(x, out)
        return out

    @numba.njit
    def several(nets: Any, x: Any) -> Any:
        total = np.zeros(2)
        out = np.empty(2)
        for f in nets:
            f(x, out=out)
            total += out
        return total

    @numba.njit
    def shape(f: Any) -> Any:
        return f.inputs, f.outputs

    assert shape(first) == (first.inputs, first.outputs) == (3, 2)
    assert np.array_equal(named(x), first(x))
    assert np.array_equal(several((first, second, first), x), first(x) + second(x) + first(x))


@compiled_only
def test_in_parallel_loops(rng: np.random.Generator) -> None:
    f = made([3, 30, 2]).compiled()
    X = rng.standard_normal((500, 3))

    @numba.njit(parallel=True)
    def given_it(f: Any, X: Any, out: Any) -> None:
        for i in numba.prange(X.shape[0]):
            f(X[i], out[i])

    @numba.njit(parallel=True)
    def knows_it(X: Any, out: Any) -> None:
        for i in numba.prange(X.shape[0]):
            f(X[i], out[i])

    for call in (lambda out: given_it(f, X, out), lambda out: knows_it(X, out)):
        out = np.zeros((500, 2))
        call(out)
        assert np.array_equal(out, f(X))


@compiled_only
def test_eight_threads_at_once(rng: np.random.Generator) -> None:
    f = made([4, 64, 64, 2], dtype="float32").compiled()
    X = rng.standard_normal((2000, 4)).astype(np.float32)

    @numba.njit(nogil=True)
    def many(f: Any, X: Any, out: Any) -> None:
        for _ in range(20):
            for i in range(X.shape[0]):
                f(X[i], out[i])

    def work(seed: int) -> np.ndarray:
        out = np.zeros((2000, 2), np.float32)
        many(f, X, out)
        return out

    with ThreadPoolExecutor(8) as pool:
        for out in pool.map(work, range(8)):
            assert np.array_equal(out, f(X))


@compiled_only
def test_another_shape_compiles_nothing(dtype: Any, rng: np.random.Generator) -> None:
    out = np.empty(2, dtype)
    x = rng.standard_normal(3).astype(dtype)

    @numba.njit
    def loop(f: Any, x: Any, out: Any) -> None:
        for _ in range(3):
            f(x, out)

    f = made([3, 4, 2], "tanh", dtype).compiled()
    loop(f, x, out)
    f.pull(x, out)
    f.jacobian(x)
    with event.install_recorder("numba:compile") as compiled:
        for sizes in ([3, 2], [3, 1, 2], [3, 100, 2], [3, 16, 17, 31, 2]):
            f = made(sizes, "tanh", dtype).compiled()
            loop(f, x, out)
            assert np.array_equal(out, f(x))
            f.pull(x, out)
            f.jacobian(x)
    assert not compiled.buffer
    assert len(loop.signatures) == 1


@compiled_only
def test_outlives_its_model(rng: np.random.Generator) -> None:
    x = rng.standard_normal(3)
    for live in (False, True):
        model = made([3, 8, 2])
        wanted = model.predict(x[None])[0]
        f = model.compiled(live=live)
        del model
        gc.collect()
        out = np.empty(2)
        at_once(f, x, out)
        assert reference.error(out, wanted) < 1e-14


@compiled_only
def test_a_global_stays_when_its_name_is_gone(python: Callable[..., str]) -> None:
    code = """
import gc, numba, numpy as np, fastmlp
f = fastmlp.Model([3, 8, 2], rng=0).compiled()
wanted = f(np.ones(3))
@numba.njit
def named(x, out):
    f(x, out)
out = np.empty(2)
named(np.ones(3), out)
del f
gc.collect()
kept = [np.random.rand(1000) for _ in range(100)]
out[:] = 0
named(np.ones(3), out)
assert np.array_equal(out, wanted)
"""
    python(code)


@compiled_only
def test_callers_are_cached(tmp_path: Path, python: Callable[..., str]) -> None:
    (tmp_path / "caller.py").write_text(
        """
import numba, numpy as np
@numba.njit(cache=True)
def loop(f, x, out, dx):
    for _ in range(10):
        f(x, out)
    f.pull(x, out, dx)
"""
    )
    code = """
import sys; sys.path.insert(0, FOLDER)
import numpy as np, fastmlp, caller
f = fastmlp.Model([3, 8, 2], rng=0).compiled()
x, out, dx = np.ones(3), np.empty(2), np.empty(3)
caller.loop(f, x, out, dx)
assert np.array_equal(out, f(x))
assert np.array_equal(dx, f.pull(x, out))
print(sum(caller.loop.stats.cache_hits.values()), sum(caller.loop.stats.cache_misses.values()))
""".replace("FOLDER", repr(str(tmp_path)))
    settings = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert python(code, **settings).split() == ["0", "1"]
    assert python(code, **settings).split() == ["1", "0"]


@compiled_only
def test_a_caller_that_names_it_is_not_cached(tmp_path: Path) -> None:
    f = made([3, 2]).compiled()

    def named(x: Any, out: Any) -> None:
        f(x, out)

    cached = numba.njit(cache=True)(named)
    with pytest.warns(numba.core.errors.NumbaWarning, match="dynamic globals"):
        cached(np.zeros(3), np.empty(2))


# ---- frozen and live -------------------------------------------------------------------------------------------------


@pytest.mark.small
def test_frozen_stays_and_live_follows(rng: np.random.Generator) -> None:
    model = made([3, 8, 2])
    X, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    frozen, live = model.compiled(), model.compiled(live=True)
    assert (frozen.live, live.live) == (False, True)
    before = frozen(X)
    assert np.array_equal(live(X), before)
    model.fit(X, y, epochs=3, lr=0.1)
    assert np.array_equal(frozen(X), before)
    assert reference.error(live(X), model.predict(X)) < 1e-14
    assert not np.array_equal(live(X), before)
    model.params[...] = 0
    assert np.array_equal(live(X), np.zeros((20, 2)))


@pytest.mark.small
def test_pickles_and_copies(dtype: Any, rng: np.random.Generator) -> None:
    model = made([3, 8, 2], dtype=dtype)
    X = rng.standard_normal((5, 3)).astype(dtype)
    for f in (model.compiled(), model.compiled(live=True)):
        for other in (pickle.loads(pickle.dumps(f)), copy.copy(f), copy.deepcopy(f)):
            assert other.live == f.live
            assert other.network == f.network
            assert np.array_equal(other(X), f(X))
    own, live = pickle.loads(pickle.dumps((model, model.compiled(live=True))))
    own.params[...] = 0
    assert np.array_equal(live(X), np.zeros((5, 2)))
    assert repr(model.compiled()) == f"CompiledModel(3-8-2, tanh, identity; {dtype}, frozen)"


# ---- as a C function -------------------------------------------------------------------------------------------------


@compiled_only
def test_a_c_function(dtype: Any, rng: np.random.Generator) -> None:
    f = made([3, 11, 2], dtype=dtype).compiled()
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(f.address)
    assert f.address == f.address
    X = rng.standard_normal((50, 3)).astype(dtype)

    def work(i: int) -> np.ndarray:
        out = np.empty(2, dtype)
        call(X[i].ctypes.data, out.ctypes.data)
        return out

    with ThreadPoolExecutor(4) as pool:
        assert np.array_equal(list(pool.map(work, range(50))), f(X))


@compiled_only
def test_in_a_function_for_scipy() -> None:
    integrate = pytest.importorskip("scipy.integrate")
    from scipy import LowLevelCallable

    f = made([2, 8, 1]).compiled()

    @numba.cfunc(numba.float64(numba.intc, numba.types.CPointer(numba.float64), numba.types.voidptr))
    def integrand(count: Any, x: Any, data: Any) -> Any:
        out = np.empty(1)
        f(numba.carray(x, (2,)), out)
        return out[0]

    got, _ = integrate.nquad(LowLevelCallable(integrand.ctypes), [[-1, 1], [-1, 1]])
    nodes, weights = np.polynomial.legendre.leggauss(30)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(nodes, nodes)], axis=1)
    assert got == pytest.approx(np.sum(np.outer(weights, weights).ravel() * f(grid)[:, 0]), rel=1e-7)


@pytest.mark.small
@pytest.mark.skipif(not INTERPRETED, reason="there is machine code in this mode")
def test_no_c_function_without_machine_code() -> None:
    with pytest.raises(RuntimeError, match="NUMBA_DISABLE_JIT"):
        _ = made([3, 2]).compiled().address


# ---- what does not fit -----------------------------------------------------------------------------------------------


def wrong_in_python() -> Iterator[Any]:
    f, X, out = made([3, 4, 2]).compiled(), np.zeros((5, 3)), np.zeros((5, 2))
    both = np.zeros((5, 5))
    yield pytest.param(lambda: f(np.zeros(4)), r"x must have shape \(3,\) or \(rows, 3\), got \(4,\)", id="columns")
    yield pytest.param(lambda: f(np.zeros((2, 2, 3))), r"x must have shape .*, got \(2, 2, 3\)", id="dimensions")
    yield pytest.param(lambda: f(["a", "b", "c"]), "x must", id="words")
    yield pytest.param(lambda: f(X, np.zeros((5, 3))), r"out must .* shape \(5, 2\), got float64 of shape \(5, 3\)", id="out")
    yield pytest.param(lambda: f(X, np.zeros((5, 2), "f4")), "out must .* got float32", id="out's dtype")
    yield pytest.param(lambda: f(X, out[::-1]), "out must .* not C-contiguous", id="out's layout")
    yield pytest.param(lambda: f(X, out.tolist()), "out must .* got list", id="out's kind")
    yield pytest.param(
        lambda: f(both.ravel()[:15].reshape(5, 3), both.ravel()[9:19].reshape(5, 2)), "out .* memory", id="overlap"
    )
    yield pytest.param(lambda: f.pull(X, np.zeros((5, 3))), r"g must have shape \(2,\)", id="g")
    yield pytest.param(lambda: f.pull(X, np.zeros((4, 2))), r"g must have a row for each of x's", id="g's rows")
    yield pytest.param(lambda: f.pull(X, np.zeros(2)), r"g must have a row for each of x's", id="g of one row")
    yield pytest.param(lambda: f.pull(X, out, X), "dx must .* shares memory with x", id="dx is x")
    yield pytest.param(lambda: f.jacobian(X, np.zeros((5, 3, 2))), r"J must .* \(5, 2, 3\)", id="J")


@pytest.mark.small
@pytest.mark.parametrize(("call", "message"), list(wrong_in_python()))
def test_what_python_is_told(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@compiled_only
@pytest.mark.parametrize(
    ("x", "out", "message"),
    [
        (np.zeros(3, "f4"), np.zeros(2), "x must be a C-contiguous array of float64"),
        (np.zeros(6)[::2], np.zeros(2), "x must be a C-contiguous array of float64"),
        (np.zeros((3, 3), order="F"), np.zeros((3, 2)), "x must be a C-contiguous array of float64"),
        (1.0, np.zeros(2), "x must be a C-contiguous array of float64"),
        (np.zeros(3), np.zeros(2, "f4"), "out must be a C-contiguous array of float64 that may be written to"),
        (np.zeros(3), np.broadcast_to(np.zeros(2), 2), "out must be a C-contiguous array of float64 that may be written to"),
        (np.zeros((1, 3)), np.zeros(2), "x and out must all be for one row, or all for several"),
        (np.zeros((1, 1, 3)), np.zeros(2), "x must have 1 dimensions, or 2 for several rows"),
    ],
)
def test_what_a_compiler_is_told(x: Any, out: Any, message: str) -> None:
    f = made([3, 4, 2]).compiled()
    with pytest.raises(TypingError, match=message):
        at_once(f, x, out)


@compiled_only
def test_calls_with_other_arguments() -> None:
    f = made([3, 4, 2]).compiled()
    for text in ("f(x)", "f(x, x, x)", "f(x, to=x)"):
        names: dict[str, Any] = {}
        exec(f"def call(f, x):\n    {text}", names)
        with pytest.raises(TypingError, match=r"as f\(x, out\)"):
            numba.njit(names["call"])(f, np.zeros(3))


@compiled_only
def test_what_compiled_code_is_told() -> None:
    f = made([3, 4, 2]).compiled()
    memory = np.arange(20.0)
    for x, out, message in (
        (np.zeros(4), np.zeros(2), "x must have as many columns"),
        (np.zeros(3), np.zeros(3), "out must have x's rows"),
        (np.zeros((4, 3)), np.zeros((3, 2)), "out must have x's rows"),
        (memory[:3], memory[2:4], "must not overlap"),
        (memory[3:6], memory[2:4], "must not overlap"),
        (memory[:12].reshape(4, 3), memory[3:11].reshape(4, 2), "must not overlap"),
    ):
        with pytest.raises(ValueError, match=message):
            at_once(f, x, out)
    assert np.array_equal(memory, np.arange(20.0))
    at_once(f, memory[:3], memory[3:5])
    at_once(f, np.zeros((0, 3)), np.zeros((0, 2)))
    for x, g, dx, J, message in (
        (np.zeros(4), np.zeros(2), np.zeros(4), np.zeros((2, 4)), "x must have as many columns"),
        (np.zeros(3), np.zeros(3), np.zeros(3), np.zeros((2, 3)), "g must have x's rows"),
        (np.zeros(3), np.zeros(2), np.zeros(2), np.zeros((2, 3)), "dx must have x's shape"),
        (np.zeros(3), np.zeros(2), np.zeros(3), np.zeros((3, 2)), "J must have the shape"),
        (np.zeros((4, 3)), np.zeros((4, 2)), np.zeros((4, 3)), np.zeros((2, 2, 3)), "J must have the shape"),
        (memory[:3], np.zeros(2), memory[1:4], np.zeros((2, 3)), "must not overlap"),
    ):
        with pytest.raises(ValueError, match=message):
            derivatives(f, x, g, dx, J)


@compiled_only
def test_errors_in_parallel_loops_are_loud() -> None:
    f = made([3, 2]).compiled()

    @numba.njit(parallel=True)
    def parallel(f: Any, X: Any, out: Any) -> None:
        for i in numba.prange(X.shape[0]):
            f(X[i], out[i])

    with pytest.raises(SystemError) as caught:
        parallel(f, np.zeros((4, 3)), np.zeros((4, 3)))
    assert "out must have x's rows" in str(caught.value.__cause__)


# ---- modules that train while they are imported ----------------------------------------------------------------------


@compiled_only
@pytest.mark.parametrize("use", ["model.fit([[1.0]], [[1.0]])", "model.compiled()([1.0])"])
def test_a_users_function_is_compiled_while_its_module_is_imported(
    tmp_path: Path, python: Callable[..., str], use: str
) -> None:
    (tmp_path / "half.py").write_text(
        f"""
import numba, fastmlp
@numba.njit
def cube(z):
    return z * z * z
@numba.njit
def slope(z):
    return 3 * z * z
model = fastmlp.Model([1, 2, 1], activations=[fastmlp.CustomActivation("cube", cube, slope), "identity"], rng=0)
{use}
"""
    )
    python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import half")
