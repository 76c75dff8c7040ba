"""Exact numbers with their units: what ``5 km``, ``1.07e16`` or ``2 1/2`` say, and what a unit is worth."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from dcod.grading.spelling import ROMAN

_UNSIGNED = r"(?:\d{1,3}(?:,\d{3}){1,19}(?!\d)|\d{1,60})(?:\.\d{0,60})?|\.\d{1,60}"


@dataclass(frozen=True)
class Quantity:
    """An exact number and its unit.

    Attributes:
        places: decimals that it was written with; -1 for a whole number or a fraction.
        step: what one of its last decimal is worth; 0 for a whole number or a fraction.
    """

    value: Fraction
    places: int = -1
    unit: str = ""
    step: Fraction = Fraction(0)

    def times(self, factor: Fraction) -> Quantity:
        """The same in another unit."""
        return Quantity(self.value * factor, self.places, "", self.step * factor)


def _ten(one: str, other: str) -> str:
    return rf"10\s?\^\s?(?:\{{\s?(?P<{one}>[-+]?\s?\d{{1,3}})\s?\}}|(?P<{other}>[-+]?\d{{1,3}}))"


_QUANTITY = re.compile(
    r"(?P<sign>[-+]?)\s?(?:(?P<whole>\d{1,20})\s?)?\\frac\s?\{\s?(?P<top>[-+]?\d{1,40})\s?\}\s?"
    r"\{\s?(?P<bottom>\d{1,40})\s?\}"
    r"|(?P<sign2>[-+]?)\s?(?P<whole2>\d{1,20})\s(?P<top2>\d{1,9})/(?P<bottom2>\d{1,9})"
    rf"|(?P<sign4>[-+]?)\s?{_ten('ten', 'ten2')}"
    rf"|(?P<sign3>[-+]?)\s?(?P<decimal>{_UNSIGNED})(?:\s?/\s?(?P<over>\d{{1,40}})(?![\d.]))?"
    rf"(?:\s?(?:\\times|\\cdot|\*|x)\s?{_ten('power', 'power2')}|[eE](?P<power3>[-+]?\d{{1,3}})(?![\d.]))?"
)
_SCALE = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_UNIT = re.compile(
    r"\s?(?:\\?%|[\ue000A-Za-z]|\\mu ?[A-Za-z])[A-Za-z./ ^\-\d{}\ue000*]*(?:\\cdot ?[A-Za-z./ ^\-\d{}\ue000]*)?"
)
_NO_UNIT = re.compile(
    r"(?:^| )(?:and|or|pi|sqrt|sin|cos|tan|log|ln|exp|mod|i|e|not|than|to|but|plus|minus|over|half|halves|"
    r"squared|cubed|factorial|if|maybe|at|least|most|between)(?: |$)"
)


def quantity(text: str) -> Quantity | None:
    """A tidied or marked answer as a number with or without a unit; None where it is something else."""
    text = text[1:-1] if text[:1] == "(" and text[-1:] == ")" and "," not in text else text
    match = _QUANTITY.match(text)
    amount = match and _value(match)
    if match is None or not amount:
        return None
    rest = text[match.end() :]
    word = re.match(r" ([a-z]+)\b", rest)
    if word and word[1] in _SCALE:
        amount, rest = amount.times(Fraction(_SCALE[word[1]])), rest[word.end() :]
    unit = rest.replace(ROMAN, "").replace("\\%", "%").strip()
    if not unit:
        return amount
    if len(rest) > 60 or not _UNIT.fullmatch(rest) or _NO_UNIT.search(unit):
        return None
    letters = sum(c.isalpha() for c in unit)
    known = unit_of(unit) is not None and (rest[0] in " \\%" + ROMAN or letters > 1)  # "2m" may be a product
    if not known and (letters < 3 or rest[0] != " "):
        return None
    if not known and any(c.isdigit() for c in unit):
        return _sum(amount, unit)
    return Quantity(amount.value, amount.places, unit, amount.step)


def _sum(first: Quantity, rest: str) -> Quantity | None:
    """5 feet 3 inches, in feet; None where the two do not go together."""
    match = re.match(r"([a-zA-Z]+),? (?=\d)", rest)
    other = quantity(rest[match.end() :]) if match else None
    if match is None or other is None:
        return None
    units = unit_of(match[1]), unit_of(other.unit)
    if units[0] is None or units[1] is None or units[0][0] != units[1][0]:
        return None
    value = first.value + other.value * units[1][1] / units[0][1] * (-1 if first.value < 0 else 1)
    return Quantity(value, -1, match[1])


def same(gold: Quantity, answer: Quantity, tolerance: Fraction = Fraction(0)) -> bool:
    """Whether two quantities are one: exactly, in the reference's unit, to the precision that it is written with.

    A percentage is its number, or a hundredth of it, where the other says no unit; but 0.5 is not 0.5 %.
    """
    if gold.unit and answer.unit:
        units = unit_of(gold.unit), unit_of(answer.unit)
        if units[0] and units[1]:
            return units[0][0] == units[1][0] and close(gold, answer.times(units[1][1] / units[0][1]), tolerance)
        return not (units[0] or units[1] or ("", 0))[0].startswith("%") and close(gold, answer, tolerance)
    percent = Fraction(1, 100)
    if _percent(gold):
        return close(gold, answer, tolerance) or close(gold.times(percent), answer, tolerance)
    if _percent(answer):
        number = abs(gold.value) >= 1 or not gold.value
        return close(gold, answer.times(percent), tolerance) or (number and close(gold, answer, tolerance))
    return close(gold, answer, tolerance)


def _percent(one: Quantity) -> bool:
    return (unit_of(one.unit) or ("", 0))[0].startswith("%")


def close(gold: Quantity, answer: Quantity, tolerance: Fraction = Fraction(0)) -> bool:
    """Whether an answer without unit is the reference, or within the tolerance, or a fair rounding of one to the other.

    Six decimals at least make a rounded number. A reference that is rounded is met by what rounds to it; one that is
    exact, by an answer right to its last decimal, which may be cut off there.
    """
    apart = abs(gold.value - answer.value)
    if apart <= tolerance:
        return True
    if apart > abs(gold.value) / 100_000 or apart > Fraction(1, 2_000_000):
        return False
    if gold.places >= 6:
        return (answer.places < 0 or answer.step <= gold.step) and apart <= gold.step / 2
    if gold.places >= 0 or answer.places < 6:
        return False
    return apart <= answer.step / 2 or (abs(answer.value) < abs(gold.value) and apart < answer.step)


def as_number(text: str) -> Fraction | None:
    """A normalised answer as an exact number: integer, decimal, fraction, mixed or scientific; else None."""
    amount = quantity(text)
    return amount.value if amount and not amount.unit else None


def _value(match: re.Match[str]) -> Quantity | None:
    part = match.groupdict()
    for sign, whole, top, bottom in (("sign", "whole", "top", "bottom"), ("sign2", "whole2", "top2", "bottom2")):
        if part[bottom]:
            if not int(part[bottom]):
                return None
            value = int(part[whole] or 0) + Fraction(int(part[top]), int(part[bottom]))
            return Quantity(-value if part[sign] == "-" else value)
    ten = part["ten"] or part["ten2"]
    if ten:
        value = Fraction(10) ** int(ten.replace(" ", ""))
        return Quantity(-value if part["sign4"] == "-" else value)
    digits = part["decimal"].replace(",", "")
    value = Fraction(digits.removesuffix("."))
    if part["over"]:
        if not int(part["over"]):
            return None
        value /= int(part["over"])
    places = len(digits.partition(".")[2]) if "." in digits and not part["over"] else -1
    power = (part["power"] or part["power2"] or part["power3"] or "0").replace(" ", "")
    scale = Fraction(10) ** int(power)
    step = scale / 10**places if places >= 0 else Fraction(0)
    return Quantity((-value if part["sign3"] == "-" else value) * scale, places, "", step)


_PREFIXES = {
    "": "1",
    "k": "1000",
    "M": "1e6",
    "G": "1e9",
    "c": "1/100",
    "d": "1/10",
    "m": "1/1000",
    "n": "1e-9",
    "p": "1e-12",
}
_SPOKEN = {"": "1", "kilo": "1000", "mega": "1e6", "giga": "1e9", "centi": "1/100", "deci": "1/10", "milli": "1/1000",
           "micro": "1e-6", "nano": "1e-9"}  # fmt: skip
# sign, spoken name, size, and what it is made of; with prefixes
_METRIC = """m meter 1 m|m metre 1 m|g gram 1 g|s second 1 s|l liter 1/1000 m3|L litre 1/1000 m3|J joule 1000 g m2 s-2
N newton 1000 g m s-2|W watt 1000 g m2 s-3|Pa pascal 1000 g m-1 s-2|Hz hertz 1 s-1|V volt 1 V|A ampere 1 A|K kelvin 1 K
C coulomb 1 C|F farad 1 F|T tesla 1 T|H henry 1 H|mol mole 1 mol|eV electronvolt 1 eV|cal calorie 1 cal|Wb weber 1 Wb"""
_OTHER = """in inch inche 127/5000 m|ft foot feet 381/1250 m|yd yard 1143/1250 m|mi mile 201168/125 m|kilo 1000 g
oz ounce 45359237/1600000 g|lb pound 45359237/100000 g|ton tonne 1000000 g|sec 1 s|min minute 60 s|h hr hour 3600 s
day 86400 s|week 604800 s|month 1 month|yr year 12 month|pint 1 pint|quart 2 pint|gal gallon 8 pint|cent 1/100 dollar
dollar 1 dollar|degree deg 1 degree|rad radian 1 rad|% percent pct 1 %|erg 1/10000 g m2 s-2|mph 201168/450000 m s-1
kph kmh 5/18 m s-1|ohm 1 ohm|bar 100000000 g m-1 s-2|atm 101325000 g m-1 s-2"""
_Unit = tuple[Fraction, dict[str, int]]


def _units() -> dict[str, _Unit]:
    units: dict[str, _Unit] = {}
    for metric, rows in ((True, _METRIC), (False, _OTHER)):
        for row in re.split(r"[|\n]", rows):
            names, size, bases = re.fullmatch(r"((?:[a-zA-Z%]+ )+)([\d/]+) (.*)", row).groups()  # type: ignore[union-attr]
            made = {m[1]: int(m[2] or 1) for m in re.finditer(r"([A-Za-z%]+)(-?\d*)", bases)}
            for index, name in enumerate(names.split()):
                prefixes = (_PREFIXES, _SPOKEN)[index] if metric else {"": "1"}
                units.update({p + name: (Fraction(size) * Fraction(f), made) for p, f in prefixes.items()})
    return units


_UNITS = _units()
_PART = re.compile(
    r"(?P<over>/|\bper\b)|(?P<power>\bsquare\b|\bsq\b|\bcubic\b)|[ .*{}]|\\cdot"
    r"|(?P<name>\\mu ?[a-zA-Z]+|[A-Za-z%]+)(?: ?\^ ?\{? ?(?P<exponent>-?\d) ?\}?)?"
)


def unit_of(text: str) -> tuple[str, Fraction] | None:
    """Dimension and size of a unit such as ``km/h``, ``square feet`` or ``erg s^{-1}``; None for other words."""
    size, made, power, sign, end = Fraction(1), dict[str, int](), 1, 1, 0
    for match in _PART.finditer(text):
        if match.start() != end:
            return None
        end = match.end()
        if match["over"]:
            sign = -1
        elif match["power"]:
            power = 3 if match["power"] == "cubic" else 2
        elif match["name"]:
            known = _unit(match["name"])
            if known is None:
                return None
            times = sign * int(match["exponent"] or power)
            size *= known[0] ** times
            for name, count in known[1].items():
                made[name] = made.get(name, 0) + count * times
            power = 1
    if end != len(text) or not made:
        return None
    return " ".join(f"{name}{count}" for name, count in sorted(made.items()) if count), size


def _unit(name: str) -> _Unit | None:
    if name.startswith("\\mu"):
        known = _UNITS.get(name[3:].strip())
        return known and (known[0] / 10**6, known[1])
    if len(name) == 1:
        return _UNITS.get(name)
    for spelled in (name, name.lower()):
        for one in (spelled, spelled.removesuffix("s"), spelled.removesuffix("es")):
            if one in _UNITS and (len(one) > 1 or spelled == one):
                return _UNITS[one]
    return None
