"""The kernels' functions of a tile as C functions of one number.

Their source is read, so an activation stands in `fastmlp.kernels` alone. It may assign, return, calculate, compare, call other
`inlined` functions and the intrinsics below, and choose by `FMA` and `is_single`; anything else is a TypeError.
"""

import ast
import inspect
import math
import operator
import re
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

OPERATORS: dict[type, tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
}
RELATIONS: dict[type, str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "=="}

# What `fastmlp.kernels.tiles.arithmetic` has for tiles; `filled` says what the capitals stand for.
INTRINSICS = {
    "fma": """
/* a * b + c, rounded once where the processor can. */
UPPER_INLINE T NET_fma(T a, T b, T c) {
#if defined(UPPER_WIDE)
    volatile T rounded = (T)((WIDE)a * b + c); /* gcc 12's vectoriser would leave the rounding out */
    return rounded;
#elif UPPER_FUSED
    return fmaF(a, b, c);
#else
    return a * b + c;
#endif
}""",
    "where": """
UPPER_INLINE T NET_where(int mask, T a, T b) { return mask ? a : b; }""",
    "maximum": """
/* The larger; a NaN in a stays. */
UPPER_INLINE T NET_maximum(T a, T b) { return b > a ? b : a; }""",
    "minimum": """
/* The smaller; a NaN in a stays. */
UPPER_INLINE T NET_minimum(T a, T b) { return b < a ? b : a; }""",
    "quotient": """
UPPER_INLINE T NET_quotient(T a, T b) { return a / b; }""",
    "root": """
UPPER_INLINE T NET_root(T a) { return sqrtF(a); }""",
    "fabs": """
UPPER_INLINE T NET_fabs(T a) { return fabsF(a); }""",
    "copysign": """
UPPER_INLINE T NET_copysign(T a, T b) { return copysignF(a, b); }""",
    "rint": """
/* The nearest integer, ties to even. */
UPPER_INLINE T NET_rint(T a) {
#if defined(__SSE4_1__) || defined(__ARM_FEATURE_DIRECTED_ROUNDING) || defined(__FAST_MATH__) || __FLT_EVAL_METHOD__
    return rintF(a);
#else /* rint would be a call, with which no loop is vectorised */
    T size = fabsF(a);
    return size < INTEGERS ? copysignF((size + INTEGERS) - INTEGERS, a) : a;
#endif
}""",
    "scale": """
/* 2**k for an integral k within the exponents of normal numbers: k is added to the bits of a number whose last one counts 1. */
UPPER_INLINE T NET_power_of_two(T k) {
    union { T number; BITS bits; } u;
    u.number = k + SHIFT;
    u.bits = (u.bits << MANTISSA) + ((BITS)BIAS << MANTISSA);
    return u.number;
}

/* a * 2**n for an integral n, in two steps so that overflow and subnormal results come out right. */
UPPER_INLINE T NET_scale(T a, T n) {
    T half = NET_rint(n * HALF);
    return a * NET_power_of_two(half) * NET_power_of_two(n - half);
}""",
}
CALLED_BY = {"scale": ["rint"]}  # other intrinsics


def literal(value: float, dtype: np.dtype) -> str:
    """A number as C writes it in hexadecimal, exact in the dtype."""
    number = float(dtype.type(value))
    if not math.isfinite(number):
        return "NAN" if math.isnan(number) else "INFINITY" if number > 0 else "-INFINITY"
    digits, _, power = number.hex().partition("p")
    return f"{digits.rstrip('0').rstrip('.')}p{power}{'f' if dtype == np.float32 else ''}"


def filled(template: str, name: str, dtype: np.dtype, **others: str) -> str:
    """A C text with the name, what depends on the dtype, and other words in their places."""
    single = dtype == np.float32
    last = 2.0**23 if single else 2.0**52  # from here on there are only integers
    words = {"T": "float", "WIDE": "double"} if single else {"T": "double", "WIDE": "long double"}
    words |= {"BITS": "unsigned int" if single else "unsigned long long"}
    words |= {"MANTISSA": "23", "BIAS": "127"} if single else {"MANTISSA": "52", "BIAS": "1023"}
    words |= {"INTEGERS": literal(last, dtype), "SHIFT": literal(1.5 * last, dtype), "HALF": literal(0.5, dtype)}
    words |= {"ZERO": literal(0.0, dtype), "ONE": literal(1.0, dtype)}
    words |= {f"{one}F": one + ("f" if single else "") for one in ("fma", "sqrt", "fabs", "copysign", "rint")}
    words |= {"NET": name, "UPPER": name.upper(), **others}
    return re.sub(r"\b(?:(?:NET|UPPER)(?=_)|[A-Za-z]+\b)", lambda found: words.get(found[0], found[0]), template)


class Translator:
    """The C of functions of tiles and of all that they call: each once, and behind those that it calls.

    Parameters
    ----------
    name : str
        What the C names begin with.
    dtype : numpy.dtype
        float32 or float64.
    """

    def __init__(self, name: str, dtype: np.dtype) -> None:
        self.name, self.dtype = name, dtype
        self.number = "float" if dtype == np.float32 else "double"
        self.texts: dict[Any, str] = {}  # by an intrinsic's name, or by the Python function

    def intrinsic(self, name: str) -> str:
        """The C name of an intrinsic."""
        if name not in self.texts:
            for other in CALLED_BY.get(name, []):
                self.intrinsic(other)
            self.texts[name] = filled(INTRINSICS[name], self.name, self.dtype)
        return f"{self.name}_{name}"

    def function(self, function: Callable[..., Any]) -> str:
        """The C name of a function of tiles."""
        python = inspect.unwrap(function)
        name = f"{self.name}_{python.__name__.strip('_')}"
        if python not in self.texts:
            text = _Body(self, python).text(name)
            self.texts[python] = text
        return name


class _Body:
    """One function on its way to C.

    Names get an underscore: they may be macros, as `far` is in Windows' headers.
    """

    def __init__(self, translator: Translator, python: Callable[..., Any]) -> None:
        self.translator, self.python = translator, python
        self.known: set[str] = set()
        self.lines: list[str] = []
        self.indent = "    "

    def text(self, name: str) -> str:
        definition = ast.parse(textwrap.dedent(inspect.getsource(self.python))).body[0]
        if not isinstance(definition, ast.FunctionDef):
            raise self.refused(definition)
        self.known.update(argument.arg for argument in definition.args.args)
        number = self.translator.number
        taken = ", ".join(f"{number} {argument.arg}_" for argument in definition.args.args)
        self.statements(definition.body)
        summary = (ast.get_docstring(definition) or "").partition("\n")[0]
        comment = [f"/* {summary} */"] if summary else []
        return "\n".join(["", *comment, f"{self.translator.name.upper()}_INLINE {number} {name}({taken}) {{", *self.lines, "}"])

    def refused(self, node: ast.AST) -> TypeError:
        place = f"{self.python.__module__}.{self.python.__qualname__}"
        return TypeError(f"{place} has no C for {ast.unparse(node).partition(chr(10))[0]!r}")

    def line(self, text: str) -> None:
        self.lines.append(self.indent + text)

    def statements(self, nodes: Iterable[ast.stmt]) -> None:
        for node in nodes:
            match node:
                case ast.Expr(ast.Constant(str())):
                    continue
                case ast.Assign([ast.Name(name)], value):
                    kind = "int" if isinstance(value, ast.Compare) else self.translator.number
                    self.line(f"{'' if name in self.known else f'{kind} '}{name}_ = {self.written(value)};")
                    self.known.add(name)
                case ast.Return(ast.expr() as value):
                    self.line(f"return {self.written(value)};")
                case ast.If(test, body, []):
                    self.branch(self.condition(test), body)
                case _:
                    raise self.refused(node)

    def branch(self, condition: bool | str, body: Iterable[ast.stmt]) -> None:
        if condition is True:
            self.statements(body)
        elif condition:
            self.line(f"if ({condition}) {{")
            before, self.known, self.indent = self.known, set(self.known), self.indent + "    "
            self.statements(body)
            self.known, self.indent = before, self.indent[4:]
            self.line("}")

    def condition(self, node: ast.expr) -> bool | str:
        """What is known when the C is written, or what its compiler knows."""
        match node:
            case ast.Name("FMA"):
                return f"{self.translator.name.upper()}_FUSED"
            case ast.Call(ast.Name("is_single")):
                return self.translator.number == "float"
            case ast.BoolOp(ast.And(), values):
                conditions = [one for one in map(self.condition, values) if one is not True]
                return " && ".join(map(str, conditions)) or True if all(conditions) else False
        raise self.refused(node)

    def written(self, node: ast.expr) -> str:
        """A tile's or a mask's text, for a line by itself."""
        text = self.value(node)
        return text[1:-1] if text.startswith("(") and isinstance(node, ast.BinOp | ast.Compare) else text

    def value(self, node: ast.expr) -> str:
        """A tile's or a mask's text, for an expression."""
        found = self.expression(node)
        return found if isinstance(found, str) else literal(found, self.translator.dtype)

    def expression(self, node: ast.expr) -> Any:
        """A text; a number where only numbers meet, since Python calculates them in float64 before a tile takes them."""
        match node:
            case ast.Constant(int() | float() as number):
                return number
            case ast.Name(name) if name in self.known:
                return f"{name}_"
            case ast.Name(name) if name in self.python.__globals__:
                return self.python.__globals__[name]
            case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as number)):
                return -number
            case ast.BinOp(left, symbol, right) if type(symbol) in OPERATORS:
                text, calculate = OPERATORS[type(symbol)]
                terms = self.expression(left), self.expression(right)
                if not any(isinstance(term, str) for term in terms):
                    return calculate(*terms)
                a, b = (term if isinstance(term, str) else literal(term, self.translator.dtype) for term in terms)
                return f"({a} {text} {b})"
            case ast.Compare(left, [relation], [right]) if type(relation) in RELATIONS:
                return f"({self.value(left)} {RELATIONS[type(relation)]} {self.value(right)})"
            case ast.Call(ast.Name("horner"), [x, single, double], []):
                return self.polynomial(self.value(x), self.expression(single if self.translator.number == "float" else double))
            case ast.Call(ast.Name(name), arguments, []):
                taken = ", ".join(map(self.written, arguments))
                return f"{self.called(name, node)}({taken})"
        raise self.refused(node)

    def called(self, name: str, node: ast.expr) -> str:
        """The C name of what the function calls by this name."""
        if name in INTRINSICS:
            return self.translator.intrinsic(name)
        function: Any = self.python.__globals__.get(name)
        if not inspect.isfunction(inspect.unwrap(function)):
            raise self.refused(node)
        return self.translator.function(function)

    def polynomial(self, x: str, coefficients: tuple[float, ...]) -> str:
        """Horner's rule, in lines before the present one."""
        first, *others = (literal(number, self.translator.dtype) for number in coefficients)
        if not others:
            return first
        fma, name = self.translator.intrinsic("fma"), f"value{len(self.lines)}"
        self.line(f"{self.translator.number} {name} = {first};")
        for number in others:
            self.line(f"{name} = {fma}({name}, {x}, {number});")
        return name
