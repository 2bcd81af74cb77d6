"""From a formula tree to plain text, Unicode and LaTeX, with brackets only where they are needed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import _formula as f
from ._errors import KindError
from ._hoisting import hoisted
from ._variables import latex_name, unicode_name

_SUM, _PRODUCT, _ATOM = 1, 2, 3


@dataclass(frozen=True)
class Style:
    """How one notation writes each node of a formula."""

    name: Callable[[str], str]
    number: Callable[[float], str]
    density: str
    standard_normal: str
    proportional: str
    comma: str
    integral: str
    summation: str
    series: str
    differential: str
    log: str
    ratio: str
    times: str
    plus: str
    minus: str
    negative: str
    power: Callable[[str, str], str]
    call: str
    at: str
    expected: str
    functional: str
    divergence: str
    brackets: str
    optimum: str
    gradient: str
    calls: Mapping[str, str] = field(default_factory=dict)
    ratio_is_atom: bool = False
    braces: bool = False


def _number(value: float) -> str:
    return format(value, ".15g")


def _latex_number(value: float) -> str:
    text = {"inf": r"\infty", "-inf": r"-\infty", "nan": r"\mathrm{nan}"}.get(_number(value), _number(value))
    mantissa, e, exponent = text.partition("e")
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if e else text


_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _text_power(base: str, exponent: str) -> str:
    return f"{base}^{exponent}"


def _unicode_power(base: str, exponent: str) -> str:
    return base + exponent.translate(_SUPERSCRIPTS) if exponent.isdigit() else f"{base}^{exponent}"


def _latex_power(base: str, exponent: str) -> str:
    return f"{base}^{{{exponent}}}"


TEXT = Style(
    name=str,
    number=_number,
    density="{name}({args})",
    standard_normal="N({args};0,1)",
    proportional=" ∝ ",
    comma=",",
    integral="∫{body}{differentials}",
    summation="Σ_{var} {body}",
    series="Σ_{{{index}=0}}^{{{last}}} {body}",
    differential="d{name}",
    log="log {body}",
    ratio="{top}/{bottom}",
    times=" * ",
    plus=" + ",
    minus=" - ",
    negative="-{body}",
    power=_text_power,
    call="{name}({body})",
    at="[{body}]_{{{given}}}",
    expected="E_{under}[{body}]",
    functional="{name}[{body}]",
    divergence="{name}[{left}||{right}]",
    brackets="({body})",
    optimum="{name}_{players} {body}",
    gradient="∇_{var} {body}",
)

UNICODE = Style(
    name=unicode_name,
    number=_number,
    density="{name}({args})",
    standard_normal="𝒩({args};0,1)",
    proportional=" ∝ ",
    comma=",",
    integral="∫{body}{differentials}",
    summation="Σ_{var} {body}",
    series="Σ_{{{index}=0}}^{{{last}}} {body}",
    differential=" d{name}",
    log="log {body}",
    ratio="{top}/{bottom}",
    times=" · ",
    plus=" + ",
    minus=" − ",
    negative="−{body}",
    power=_unicode_power,
    call="{name}({body})",
    at="[{body}]_{{{given}}}",
    expected="𝔼_{under}[{body}]",
    functional="{name}[{body}]",
    divergence="{name}[{left} ‖ {right}]",
    brackets="({body})",
    optimum="{name}_{players} {body}",
    gradient="∇_{var} {body}",
)

LATEX = Style(
    name=latex_name,
    number=_latex_number,
    density="{name}({args})",
    standard_normal=r"\mathcal{{N}}({args};0,1)",
    proportional=r" \propto ",
    comma=",",
    integral=r"\int {body}{differentials}",
    summation=r"\sum_{{{var}}} {body}",
    series=r"\sum_{{{index}=0}}^{{{last}}} {body}",
    differential=r"\,\mathrm{{d}}{name}",
    log=r"\log {body}",
    ratio=r"\frac{{{top}}}{{{bottom}}}",
    times=r" \cdot ",
    plus=" + ",
    minus=" - ",
    negative="-{body}",
    power=_latex_power,
    call=r"\mathrm{{{name}}}\left({body}\right)",
    at=r"\left.{body}\right|_{{{given}}}",
    expected=r"\mathbb{{E}}_{{{under}}}\left[{body}\right]",
    functional=r"\mathrm{{{name}}}\left[{body}\right]",
    divergence=r"D_{{\mathrm{{{name}}}}}\left[{left} \,\middle\|\, {right}\right]",
    brackets=r"\left({body}\right)",
    optimum=r"\{name}_{{{players}}} {body}",
    gradient=r"\nabla_{{{var}}} {body}",
    calls={
        "abs": r"\left|{body}\right|",
        "exp": r"\exp\left({body}\right)",
        "max": r"\max\left({body}\right)",
        "min": r"\min\left({body}\right)",
        "norm": r"\left\|{body}\right\|",
        "stop": r"\mathrm{{sg}}\left[{body}\right]",
    },
    ratio_is_atom=True,
    braces=True,
)


def render(node: f.Formula, style: Style = TEXT) -> str:
    """The formula as a string in the given notation."""
    return _write(hoisted(node), style)[0]


def _write(node: f.Formula, s: Style) -> tuple[str, int]:
    """The node's text and how tightly it holds together: a sum least, an atom most."""

    def at_least(level: int, child: f.Formula) -> str:
        text, own = _write(child, s)
        return text if own >= level else s.brackets.format(body=text)

    def whole(child: f.Formula) -> str:
        return _write(child, s)[0]

    def names(group: tuple[str, ...]) -> str:
        return s.comma.join(map(s.name, group))

    def values(given: tuple[tuple[str, str], ...]) -> list[str]:
        return [f"{s.name(v)}={text}" for v, text in given]

    def raised(child: f.Formula) -> str:
        """What has an exponent: in brackets if it has a stroke, or an exponent of its own."""
        text, own = _write(child, s)
        loose = own < _ATOM or isinstance(child, f.Ratio) or (isinstance(child, f.Number) and "^" in text)
        return s.brackets.format(body=text) if loose else text

    match node:
        case f.Number(value):
            return s.number(value), _ATOM if value >= 0 else _SUM
        case f.Symbol(name):
            return s.name(name), _ATOM
        case f.Density(name, var, cond_var, given, mask):
            behind = [*map(s.name, cond_var), *values(given)]
            args = names(var) + (f"[{s.name(mask)}]" if mask else "") + ("|" + s.comma.join(behind) if behind else "")
            return s.density.format(name=s.name(name), args=args), _ATOM
        case f.StandardNormal(var):
            return s.standard_normal.format(args=names(var)), _ATOM
        case f.Juxtaposed(factors):
            return "".join(at_least(_ATOM, x) for x in factors), _ATOM if len(factors) == 1 else _PRODUCT
        case f.Integral(body, var):
            differentials = "".join(s.differential.format(name=s.name(v)) for v in var)
            return s.integral.format(body=at_least(_PRODUCT, body), differentials=differentials), _SUM
        case f.Summation(body, var):
            return s.summation.format(var=names(var), body=at_least(_PRODUCT, body)), _SUM
        case f.Series(body, index, last):
            return s.series.format(index=s.name(index), last=last, body=at_least(_PRODUCT, body)), _SUM
        case f.Equation(left, right):
            return f"{whole(left)} = {whole(right)}", 0
        case f.Proportional(left, right):
            return f"{whole(left)}{s.proportional}{whole(right)}", 0
        case f.Log(f.Ratio() as body):
            return s.log.format(body=whole(body)), _SUM + (_PRODUCT - _SUM) * s.ratio_is_atom
        case f.Log(body):
            return s.log.format(body=at_least(_ATOM, body)), _PRODUCT
        case f.Ratio(top, bottom):
            if s.ratio_is_atom:
                return s.ratio.format(top=whole(top), bottom=whole(bottom)), _ATOM
            return s.ratio.format(top=at_least(_ATOM, top), bottom=at_least(_ATOM, bottom)), _PRODUCT
        case f.Sum(terms):
            return _write_sum(terms, s), _SUM
        case f.Product(factors):
            return s.times.join(at_least(_PRODUCT, x) for x in factors), _PRODUCT
        case f.Power(base, exponent):
            return s.power(raised(base), at_least(_SUM if s.braces else _ATOM, exponent)), _PRODUCT
        case f.Call(name, body, others):
            return s.calls.get(name, s.call).format(name=name, body=", ".join(map(whole, (body, *others)))), _ATOM
        case f.At(body, given):
            return s.at.format(body=whole(body), given=s.comma.join(values(given))), _ATOM
        case f.Functional(name, body):
            return s.functional.format(name=name, body=whole(body)), _ATOM
        case f.Expected(under, body, draws):
            over = whole(under) if draws is None else s.power(at_least(_ATOM, under), str(draws))
            return s.expected.format(under=over, body=whole(body)), _ATOM
        case f.PowerMean(body, order):
            # The exponential of a logarithm is not written.
            inner = whole(body.body) if isinstance(body, f.Log) else s.call.format(name="exp", body=whole(body))
            if order == 0:
                return s.log.format(body=s.call.format(name="mean", body=inner)), _PRODUCT
            scale = s.number(1 - order)
            powered = s.power(s.brackets.format(body=inner), scale)
            mean = s.log.format(body=s.call.format(name="mean", body=powered))
            return s.times.join((s.ratio.format(top=s.number(1), bottom=scale), mean)), _PRODUCT
        case f.Divergence(name, left, right):
            return s.divergence.format(name=name, left=whole(left), right=whole(right)), _ATOM
        case f.Gradient(body, var):
            return s.gradient.format(var=names(var), body=at_least(_ATOM, body)), _PRODUCT
        case f.Optimum(name, players, body):
            return s.optimum.format(name=name, players=names(players), body=whole(body)), _SUM
        case f.Beside(parts):
            return "; ".join(map(whole, parts)), 0
        case f.Saddle():
            return _write(hoisted(node), s)
    raise KindError(f"A formula is made of the classes in pixyz.core.formula; got a {type(node).__name__}: {node!r}.")


def _write_sum(terms: tuple[tuple[int, f.Formula], ...], s: Style) -> str:
    out: list[str] = []
    for i, (sign, term) in enumerate(terms):
        text, _ = _write(term, s)
        signed = i > 0 or sign < 0
        if signed and (isinstance(term, f.Sum) or (isinstance(term, f.Number) and term.value < 0)):
            text = s.brackets.format(body=text)
        if i > 0:
            out.append(s.plus if sign > 0 else s.minus)
        out.append(s.negative.format(body=text) if i == 0 and sign < 0 else text)
    return "".join(out)


f.Formula.__str__ = lambda self: render(self)  # a node prints as its text
