"""How the package is built: imports point down, functions are short, words are plain. Its source is read, not run."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import fastmlp

PACKAGE = Path(fastmlp.__file__).parent
HERE = Path(__file__).parent

# From the ground up. A module stands where the longest name is that its own begins with, and imports from there and below.
FLOORS = [
    ["kernels.machine"],
    ["kernels.tuning"],
    ["kernels.tiles"],
    ["kernels.layer"],
    ["kernels.net"],
    ["kernels"],
    ["checks", "display", "initialisation", "history", "version"],
    ["custom", "derivatives", "activations", "losses"],
    ["arguments"],
    ["metrics", "monitor", "schedules", "optimizer", "optimizers", "lbfgs", "network", "types"],
    ["engine"],
    ["files"],
    ["training", "callbacks", "compiled"],
    ["model"],
    ["tabular"],
    ["sklearn", "estimators", "warmup", "onnx", "interchange", "files.load"],
    [""],  # fastmlp itself
    ["cli"],
    ["__main__"],
]
# Imports that close a circle: who, what, and why.
CIRCLES = {
    (
        "onnx",
        "sklearn.estimators",
    ): "`register` names the estimators, whose fits call it: imported when it runs",
}

LINES, PARAMETERS = 60, 8
LONG = {
    "kernels.net.narrow.narrow_batches": "a step takes 40 ns: what it needs stays in registers from one to the next",
    "kernels.net.resident._resident": "makes a kernel, and holds it",
    "kernels.net.resident._resident.resident": "the whole net is a set of local variables, in registers",
}
# The kernels that Python calls take arrays one by one: each costs 30 ns, but a NamedTuple of them microseconds.
MANY = {
    "kernels.net.train.train": "called from Python",
    "kernels.net.train.evaluate_gradient": "called from Python",
    "sklearn.estimators.MLPClassifier.__init__": "scikit-learn takes an estimator's parameters from its signature",
    "sklearn.estimators.MLPRegressor.__init__": "scikit-learn takes an estimator's parameters from its signature",
    "training.epochs.Epochs.__init__": "the arguments of `fit` and `fit_batches`, which it checks",
    "training.fit.Trainable.fit": "what a user says of a training, by keyword",
    "training.fit.Trainable.fit_batches": "what a user says of a training, by keyword",
}

PHRASES = re.compile(r"\bso many\b|\bsuch an? one\b|\bthat there (?:is|are) not\b|\b(?:he|his|him)\b", re.IGNORECASE)
NO_PHRASE = re.compile(r"``he``|\"he\"|'he'|He et al")  # an initialisation


def _name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {_name(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


# ---- imports ---------------------------------------------------------------------------------------------------------


def imports(source: str, modules: Iterable[str]) -> set[str]:
    """The package's modules that a source imports, but for type checkers: by their names behind ``fastmlp.``."""
    found = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.test, node.body = ast.Constant(False), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [(alias.name,) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name their module in full"
            names = [(f"{node.module}.{alias.name}", str(node.module)) for alias in node.names]
        else:
            continue
        for choices in names:
            ours = [name.removeprefix("fastmlp").removeprefix(".") for name in choices if f"{name}.".startswith("fastmlp.")]
            found |= {next(name for name in ours if name in modules)} if ours else set()
    return found


def floor(module: str) -> int:
    """Its number, counted from the ground."""
    homes = [
        (len(name), number) for number, names in enumerate(FLOORS) for name in names if f"{module}.".startswith(f"{name}.")
    ]
    assert homes, f"{module} has no floor: give it one in FLOORS"
    return max(homes)[1]


def upward(graph: dict[str, set[str]]) -> list[str]:
    return [f"{one} -> {other}" for one in graph for other in sorted(graph[one]) if floor(other) > floor(one)]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import one another, each group once."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen, ahead = set(), [start]
        while ahead:
            new = graph[ahead.pop()] - seen
            seen |= new
            ahead += new
        reached[start] = seen
    groups = {frozenset(two for two in reached[one] if one in reached[two]) for one in graph}
    return [sorted(group) for group in groups if group]


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return {name: imports(source, MODULES) for name, source in MODULES.items()}


def test_each_module_has_its_floor(graph: dict[str, set[str]]) -> None:
    assert {floor(name) for name in graph} == set(range(len(FLOORS)))
    named = {name for names in FLOORS for name in names}
    assert named <= graph.keys()


def test_imports_point_down(graph: dict[str, set[str]]) -> None:
    assert upward(graph) == []


def test_no_module_imports_itself_by_way_of_others(graph: dict[str, set[str]]) -> None:
    for one, other in CIRCLES:
        assert other in graph[one], f"{one} -> {other} is no longer there: take it from CIRCLES"
    assert circles({one: {other for other in graph[one] if (one, other) not in CIRCLES} for one in graph}) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("kernels.machine.jit", "from fastmlp.kernels.tiles import tile"),
        ("kernels.tiles.math", "from fastmlp import kernels"),
        ("checks", "import fastmlp.activations"),
        ("engine.engine", "def late():\n    from fastmlp.training.fit import Trainable"),
        ("model", "from fastmlp import warmup"),
        ("sklearn.estimators", "import fastmlp"),
    ],
)
def test_an_import_that_points_up_is_found(graph: dict[str, set[str]], module: str, line: str) -> None:
    assert upward({**graph, module: imports(f"{MODULES[module]}\n{line}", MODULES)})


def test_what_only_type_checkers_import_may_point_up() -> None:
    line = "if TYPE_CHECKING:\n    from fastmlp.model import Model\nelse:\n    from fastmlp.losses import LOSSES"
    assert imports(line, MODULES) == {"losses"}


def test_a_circle_on_one_floor_is_found(graph: dict[str, set[str]]) -> None:
    assert ["a", "b", "c"] in circles({**graph, "a": {"b"}, "b": {"c"}, "c": {"a"}})


# ---- functions -------------------------------------------------------------------------------------------------------


def functions(source: str) -> Iterator[tuple[str, int, int]]:
    """Each function's name, lines of code and parameters. The docstring, the signature, comments and `self` do not count."""
    code = set()
    empty = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in empty:
            code |= set(range(token.start[0], token.end[0] + 1))

    def walk(node: ast.AST, before: str) -> Iterator[tuple[str, int, int]]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from walk(child, before)
                continue
            name = before + child.name
            if not isinstance(child, ast.ClassDef):
                body = child.body[1:] if ast.get_docstring(child) is not None else child.body
                lines = sum(line in code for line in range(body[0].lineno, (body[-1].end_lineno or 0) + 1)) if body else 0
                of = child.args
                names = [arg.arg for arg in (*of.posonlyargs, *of.args, *of.kwonlyargs, of.vararg, of.kwarg) if arg]
                yield name, lines, len(names) - (names[:1] in (["self"], ["cls"]))
            yield from walk(child, f"{name}.")

    return walk(ast.parse(source), "")


def test_functions_are_short() -> None:
    found = {f"{module}.{name}": rest for module, source in MODULES.items() for name, *rest in functions(source)}
    assert {name: lines for name, (lines, _) in found.items() if lines > LINES and name not in LONG} == {}
    assert {name: many for name, (_, many) in found.items() if many > PARAMETERS and name not in MANY} == {}
    assert [name for name in LONG if name not in found or found[name][0] <= LINES] == []  # no longer exceptions
    assert [name for name in MANY if name not in found or found[name][1] <= PARAMETERS] == []


def test_a_long_function_is_counted() -> None:
    body = "".join(f"        x{i} = {i}\n\n        # why\n" for i in range(61))
    within = f'class A:\n    def f(self, a, *b, c=0, **d):\n        """One.\n\n        Two."""\n{body}'
    assert list(functions(within)) == [("A.f", 61, 4)]
    assert list(functions("def f():\n    def g(a):\n        return 1\n    return g\n")) == [("f", 3, 0), ("f.g", 1, 1)]


# ---- words -----------------------------------------------------------------------------------------------------------


def words(source: str) -> str:
    """The comments and docstrings of a source."""
    texts = [token.string for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.COMMENT]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            texts.append(ast.get_docstring(node, clean=False) or "")
    return "\n".join(texts)


def phrases(text: str) -> list[str]:
    """What is said in other words here: each phrase that a reader has to parse twice."""
    return PHRASES.findall(re.sub(r"\s+", " ", re.sub(r"\n *#?", " ", NO_PHRASE.sub("", text))))


def test_words_are_plain() -> None:
    found = {}
    for path in (HERE.parent / "README.md", *PACKAGE.rglob("*.*"), *HERE.rglob("*.*")):
        if path.suffix in (".py", ".md") and path != Path(__file__) and phrases(text := path.read_text(encoding="utf-8")):
            found[str(path)] = phrases(words(text) if path.suffix == ".py" else text)
    assert {path: said for path, said in found.items() if said} == {}


@pytest.mark.parametrize(
    "text", ["of so\n    many rows", "# of so\n# many rows", "Such a one is", "units that there are not", "he"]
)
def test_a_phrase_is_found(text: str) -> None:
    assert len(phrases(text)) == 1
    assert phrases(words(f'"""{text}"""\n')) == phrases(text)
    assert phrases("``he``: N(0, 2 / fan_in) (He et al., 2015)") == []
