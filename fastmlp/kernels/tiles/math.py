"""exp, expm1, log, log1p, tanh, sigmoid and the normal distribution on tiles: branch-free polynomials.

Numba has no vector library for them since 0.62, and a scalar call costs 4.6 ns an element where these cost 0.1 to 0.5.
The coefficients are Chebyshev interpolations computed in 60 digits and rounded; the tests hold each function to its
stated error over the whole range. Errors in units in the last place (ULP), float32 and float64 alike: exp 1.5,
expm1 2.5, log 1, log1p 1.5, sigmoid 2.5, tanh 3 (float32: 6), normal_density 3, normal_cdf 8. Where the target has no fused
multiply-add the normal distribution loses up to x**2 / 2 ULP more in its tails. Infinities and NaN go where IEEE 754
sends them; the zero that expm1 returns is positive.
"""

from __future__ import annotations

from typing import Any

from fastmlp.kernels.machine.jit import inlined
from fastmlp.kernels.machine.target import FMA
from fastmlp.kernels.tiles.arithmetic import (
    copysign,
    exponent,
    fabs,
    fma,
    horner,
    is_single,
    maximum,
    minimum,
    quotient,
    rint,
    scale,
    where,
)

Tile = Any

INFINITY = float("inf")
NAN = float("nan")

LOG2_E = (1.4426950408889634,)
# ln 2 in two parts, the first of so few bits that its product with an exponent is exact, fused or not.
LN2_32, LN2_64 = (0.693359375,), (0.69314718036912381649,)
LN2_LOW_32, LN2_LOW_64 = (-0.00021219444005469057,), (1.90821492927058770002e-10,)
# Beyond these exp is 0 or infinity in the dtype, and `scale` still has room for the exponent.
EXP_LOW_32, EXP_LOW_64 = (-104.0,), (-746.0,)
EXP_HIGH_32, EXP_HIGH_64 = (89.0,), (710.0,)
# expm1 is -1 to the last bit up to here, and 2**-k does not overflow.
EXPM1_LOW_32, EXPM1_LOW_64 = (-20.0,), (-40.0,)
# tanh is 1 to the last bit from 9.02 on in float32, 20 in float64. Here float32's rational function has left its range and is
# 13 half units above 1 already, safely more than its rounding errors, so that clipping its value makes it 1.
TANH_HIGH_32, TANH_HIGH_64 = 9.7, 20.0
TINY_32, TINY_64 = (1.1754943508222875e-38,), (2.2250738585072014e-308,)

# (exp(r) - 1 - r) / r**2 on |r| <= ln(2) / 2.
EXP_32 = (0.00139262508, 0.00836323288, 0.0416665542, 0.166665767, 0.5)
EXP_64 = (
    2.0914755325893202e-9, 2.5105312729622102e-8, 2.755727347871858e-7, 2.7557255170000887e-6, 2.4801587325677462e-5,
    0.00019841269875002279, 0.0013888888888883711, 0.0083333333333260831, 0.04166666666666667, 0.16666666666666671, 0.5,
)  # fmt: skip
# (log((1 + s) / (1 - s)) / s - 2) / s**2 as a polynomial of s**2, on |s| <= 0.1716.
LOG_32 = (0.295809859, 0.399887577, 0.666666851)
LOG_64 = (
    0.14617807153417325, 0.15331611722055008, 0.18182892432536871, 0.22222211089379496, 0.28571428626253838,
    0.39999999999898891, 0.66666666666666697,
)  # fmt: skip
# tanh(x) / x = P(x**2) / Q(x**2) on |x| <= 9.02, best in relative error: 0.35 units of float32's last place.
TANH_P = (1.3318813607554603e-08, 2.0583291188813746e-05, 0.0034940228797495365, 0.1337970793247223, 1.0)
TANH_Q = (7.761912002024474e-07, 0.0003283073892816901, 0.025871029123663902, 0.46713024377822876, 1.0)
# P(X < -a) * exp(a**2 / 2) * (1 + a) for a standard normal X, as a polynomial of t = (a - 5) / (a + 5), a >= 0.
NORMAL_32 = (
    0.000209604038, -2.73382692e-5, -0.00170068454, 0.00653186114, -0.015163095, 0.0245353856, -0.0264019424,
    0.0100024942, 0.0310304062, -0.0915522862, 0.46151583,
)  # fmt: skip
NORMAL_64 = (
    2.1960329059248921e-9, 1.6129107766244391e-9, -2.6332491672878586e-8, -2.1567877175579912e-8,
    1.9124697360088803e-7, 1.2228077380666922e-7, -1.30419812916899e-6, -6.645126985386993e-8, 9.0585054852097127e-6,
    -9.8977820956930846e-6, -5.3607237376585054e-5, 0.00018233460332349368, 7.7915398961842979e-6,
    -0.0016760724212402098, 0.0065220006738440734, -0.015170415395094574, 0.024536963243297945, -0.026401042966674066,
    0.010002352385241659, 0.031030368425970697, -0.091552281834009167, 0.46151582985003775,
)  # fmt: skip
NORMAL_HIGH_32, NORMAL_HIGH_64 = (15.0,), (40.0,)


@inlined
def _power(x: Tile) -> Tile:
    """exp(r) - 1 for the remainder r = x - k ln 2, |r| <= ln(2) / 2."""
    k = rint(x * horner(x, LOG2_E, LOG2_E))
    r = fma(k, 0.0 - horner(x, LN2_32, LN2_64), x)
    r = fma(k, 0.0 - horner(x, LN2_LOW_32, LN2_LOW_64), r)
    return fma(r * r, horner(r, EXP_32, EXP_64), r)


@inlined
def exp(x: Tile) -> Tile:
    """e**x."""
    x = minimum(maximum(x, horner(x, EXP_LOW_32, EXP_LOW_64)), horner(x, EXP_HIGH_32, EXP_HIGH_64))
    k = rint(x * horner(x, LOG2_E, LOG2_E))
    return scale(_power(x) + 1.0, k)


@inlined
def exp_negative(x: Tile) -> Tile:
    """e**x for x <= 0."""
    x = maximum(x, horner(x, EXP_LOW_32, EXP_LOW_64))
    return scale(_power(x) + 1.0, rint(x * horner(x, LOG2_E, LOG2_E)))


@inlined
def expm1(x: Tile) -> Tile:
    """e**x - 1, exact to the last bits near 0 too."""
    x = minimum(maximum(x, horner(x, EXPM1_LOW_32, EXPM1_LOW_64)), horner(x, EXP_HIGH_32, EXP_HIGH_64))
    k = rint(x * horner(x, LOG2_E, LOG2_E))
    return scale(_power(x) + (1.0 - scale(x * 0.0 + 1.0, 0.0 - k)), k)


@inlined
def _log_of(f: Tile, k: Tile) -> Tile:
    """log(1 + f) + k ln 2 for 1 + f in [sqrt(1/2), sqrt(2)]."""
    s = quotient(f, f + 2.0)
    z = s * s
    half = f * f * 0.5
    inner = fma(s, half + z * horner(z, LOG_32, LOG_64), k * horner(f, LN2_LOW_32, LN2_LOW_64))
    return fma(k, horner(f, LN2_32, LN2_64), f - (half - inner))


@inlined
def log_normal(x: Tile) -> Tile:
    """The natural logarithm of a normal positive number; NaN stays."""
    e = exponent(x)
    return _log_of(scale(x, 0.0 - e) - 1.0, e)


@inlined
def log(x: Tile) -> Tile:
    """The natural logarithm: -inf at 0, NaN below."""
    small = x < horner(x, TINY_32, TINY_64)
    normal = where(small, x * 18014398509481984.0, x)  # 2**54 makes every subnormal normal
    e = exponent(normal)
    value = _log_of(scale(normal, 0.0 - e) - 1.0, where(small, e - 54.0, e))
    value = where(x < INFINITY, value, x)  # infinity and NaN stay
    return where(x > 0.0, value, where(x >= 0.0, -INFINITY, x * NAN))


@inlined
def log1p(x: Tile) -> Tile:
    """log(1 + x) for 0 <= x <= 1, exact to the last bits near 0 too."""
    far = x > 0.4142135623730950
    return _log_of(where(far, x * 0.5 - 0.5, x), where(far, x * 0.0 + 1.0, x * 0.0))


@inlined
def sigmoid(x: Tile) -> Tile:
    """1 / (1 + e**-x), from e**-|x|, which cannot overflow."""
    e = exp_negative(copysign(x, -1.0))
    return quotient(where(x < 0.0, e, 1.0), e + 1.0)


@inlined
def tanh(x: Tile) -> Tile:
    """(e**2x - 1) / (e**2x + 1); in float32 x P(x**2) / Q(x**2), a third cheaper."""
    if FMA and is_single(x):
        # Clipped on both sides, twice: no sign to take off and put back, no mask (9.3 against 7.5 cycles a register).
        bounded = maximum(minimum(x, TANH_HIGH_32), 0.0 - TANH_HIGH_32)
        square = bounded * bounded
        value = bounded * quotient(horner(square, TANH_P, TANH_P), horner(square, TANH_Q, TANH_Q))
        return maximum(minimum(value, 1.0), -1.0)
    e = expm1(minimum(fabs(x), TANH_HIGH_64) * 2.0)
    return copysign(quotient(e, e + 2.0), x)


@inlined
def _bell(x: Tile) -> Tile:
    """exp(-x**2 / 2), with the square's rounding error made good where `fma` rounds once."""
    square = x * x
    rest = fma(x, x, 0.0 - square)
    rest = where(square < INFINITY, rest, 0.0)
    value = exp(square * -0.5)
    return fma(value * rest, -0.5, value)


@inlined
def normal_density(x: Tile) -> Tile:
    """exp(-x**2 / 2) / sqrt(2 pi)."""
    return _bell(x) * 0.3989422804014327


@inlined
def normal_cdf(x: Tile) -> Tile:
    """P(X < x) for a standard normal X, exact to the last bits in the left tail too."""
    a = minimum(fabs(x), horner(x, NORMAL_HIGH_32, NORMAL_HIGH_64))
    t = (a - 5.0) / (a + 5.0)
    tail = _bell(a) * horner(t, NORMAL_32, NORMAL_64) / (a + 1.0)
    return where(x > 0.0, 1.0 - tail, tail)
