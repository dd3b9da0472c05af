"""Formulas of one variable in a normal form, in which equal formulas look equal.

A formula is multiplied out into a sum of products: the order of operands, a division written as a
product with the reciprocal, a power written as products and the place of a constant factor leave
no trace in it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

_MOST_TERMS = 32


class NoFormula(Exception):  # noqa: N818 # no error: what is no formula is left alone
    """What has no normal form, or one with more terms than any activation has."""


@dataclass(frozen=True)
class Atom:
    """The variable, or a function of a formula, which cannot be multiplied out."""

    function: str
    argument: Form | None = None
    parameters: tuple[float, ...] = ()

    @cached_property
    def order(self) -> str:
        return repr(self)


Product = tuple[Atom, ...]


@dataclass(frozen=True)
class Form:
    """A sum of products: pairs of factors and their coefficient, in a fixed order."""

    terms: tuple[tuple[Product, float], ...]

    @classmethod
    def of(cls, terms: Iterable[tuple[Product, float]]) -> Form:
        summed: dict[Product, float] = defaultdict(float)
        for product, coefficient in terms:
            summed[product] += coefficient
        kept = [(product, value) for product, value in summed.items() if value]
        if len(kept) > _MOST_TERMS:
            raise NoFormula
        return cls(tuple(sorted(kept, key=lambda term: [atom.order for atom in term[0]])))

    def __add__(self, other: Form | float) -> Form:
        return Form.of((*self.terms, *as_form(other).terms))

    def __sub__(self, other: Form | float) -> Form:
        return self + as_form(other) * -1.0

    def __rsub__(self, other: float) -> Form:
        return as_form(other) - self

    def __mul__(self, other: Form | float) -> Form:
        return Form.of(
            (tuple(sorted((*p, *q), key=lambda atom: atom.order)), a * b)
            for p, a in self.terms
            for q, b in as_form(other).terms
        )

    __radd__, __rmul__ = __add__, __mul__

    @property
    def coefficients(self) -> Mapping[Product, float]:
        return dict(self.terms)

    @property
    def constant(self) -> float | None:
        """The number that it is, None where it depends on the variable."""
        if not self.terms:
            return 0.0
        ((product, value), *others) = self.terms
        return None if product or others else value

    @property
    def atom(self) -> Atom | None:
        """The function that it is, None where it is a sum or a product."""
        if len(self.terms) != 1:
            return None
        ((product, value),) = self.terms
        return product[0] if len(product) == 1 and value == 1 else None

    def agrees(self, other: Form, tolerance: float) -> bool:
        """Whether the formulas are the same, their numbers within a relative tolerance."""
        return len(self.terms) == len(other.terms) and all(
            any(_same_term(term, candidate, tolerance) for candidate in other.terms)
            for term in self.terms
        )


def as_form(value: Form | float) -> Form:
    return value if isinstance(value, Form) else Form.of([((), value)])


X = Form.of([((Atom("x"),), 1.0)])


def apply(function: str, argument: Form) -> Form:
    """A function that is taken as it is."""
    return Form.of([((Atom(function, argument),), 1.0)])


def odd(function: str, argument: Form) -> Form:
    """A function with f(-x) = -f(x): the sign is moved in front of it."""
    negative = bool(argument.terms) and argument.terms[0][1] < 0
    return apply(function, argument * -1.0) * -1.0 if negative else apply(function, argument)


def clip(argument: Form, low: float, high: float) -> Form:
    """min(max(argument, low), high); scale and offset of the argument are moved out of it."""
    offset = argument.coefficients.get((), 0.0)
    varying = argument - offset
    if not varying.terms or low > high:
        raise NoFormula
    factor = varying.terms[0][1]
    inner = varying * (1 / factor)
    bounds = sorted(((low - offset) / factor, (high - offset) / factor))
    if any(map(math.isnan, bounds)):
        raise NoFormula
    atom = inner.atom
    if atom is not None and atom.function == "Clip" and atom.argument is not None:
        bounds = [min(max(bound, bounds[0]), bounds[1]) for bound in atom.parameters]
        inner = atom.argument
    clipped = Form.of([((Atom("Clip", inner, tuple(bounds)),), 1.0)])
    return clipped * factor + offset


def relu(argument: Form) -> Form:
    return clip(argument, 0.0, math.inf)


def leaky_relu(argument: Form, alpha: float) -> Form:
    return argument * alpha + relu(argument) * (1 - alpha)


def maximum(a: Form, b: Form) -> Form:
    """max(a, b) of two formulas of which one is constant or both are multiples of one."""
    for one, other in ((a, b), (b, a)):
        if one.constant is not None:
            return clip(other, one.constant, math.inf)
    ratio = _ratio(b, a)
    return leaky_relu(a, ratio) if ratio < 1 else leaky_relu(b, 1 / ratio)


def minimum(a: Form, b: Form) -> Form:
    """min(a, b), as `maximum`."""
    return maximum(a * -1.0, b * -1.0) * -1.0


def hard_sigmoid(argument: Form, alpha: float, beta: float) -> Form:
    return clip(argument * alpha + beta, 0.0, 1.0)


def elu(argument: Form, alpha: float) -> Form:
    """In terms of Elu with alpha 1, as Keras spells the others: alpha · elu only where x < 0."""
    one = apply("Elu", argument)
    return one * alpha + positive(argument) * one * (1 - alpha)


def positive(argument: Form) -> Form:
    """1 where the argument is positive, else 0."""
    return apply("Positive", argument)


def where(condition: Form, a: Form, b: Form) -> Form:
    return condition * a + (1 - condition) * b


def is_boolean(form: Form) -> bool:
    """Whether it is made of comparisons alone."""
    return all(atom.function == "Positive" for product, _ in form.terms for atom in product)


def power(base: Form, exponent: float) -> Form:
    """A small whole power."""
    if exponent not in (2, 3, 4):
        raise NoFormula
    result = base
    for _ in range(int(exponent) - 1):
        result = result * base
    return result


def _ratio(a: Form, b: Form) -> float:
    """The positive r with a = r · b."""
    ratio = a.terms[0][1] / b.terms[0][1]
    if ratio < 0 or not a.agrees(b * ratio, 1e-6):
        raise NoFormula
    return ratio


def _same_term(a: tuple[Product, float], b: tuple[Product, float], tolerance: float) -> bool:
    return (
        len(a[0]) == len(b[0])
        and _close(a[1], b[1], tolerance)
        and all(_same_atom(p, q, tolerance) for p, q in zip(a[0], b[0], strict=True))
    )


def _same_atom(a: Atom, b: Atom, tolerance: float) -> bool:
    if a.function != b.function or len(a.parameters) != len(b.parameters):
        return False
    if not all(_close(p, q, tolerance) for p, q in zip(a.parameters, b.parameters, strict=True)):
        return False
    if a.argument is None or b.argument is None:
        return a.argument is b.argument
    return a.argument.agrees(b.argument, tolerance)


def _close(a: float, b: float, tolerance: float) -> bool:
    return a == b or (math.isfinite(a - b) and abs(a - b) <= tolerance * max(abs(a), abs(b)))
