"""Personal data in a text, replaced by its kind: addresses, telephone, card and identity numbers.

Every pattern takes linear time on any text: what repeats has a highest number, and nothing can
begin inside of a run of its own characters. Names of people and postal addresses are not looked
for. Numbers that only look alike are masked too (a version 10.1.2.3, a ten-digit article number).
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable

# A number stands alone: no letter or digit touches it, nor another number by "." or "+". Both
# sides have the same rule, so that masking one number never uncovers its neighbour.
_WORD = "[0-9A-Za-z_]"
_BEFORE = rf"(?<!{_WORD})(?<![0-9][.+])"
_AFTER = r"(?![0-9A-Za-z_]|[.+][0-9]|::)"

_LOCAL = "A-Za-z0-9._%+-"
_AT_HOST = r"@(?:[A-Za-z0-9-]{1,63}+\.){1,8}[A-Za-z]{2,24}"
_EMAIL = re.compile(  # two that are not parted count as one
    rf"(?<![{_LOCAL}])[{_LOCAL}]{{1,64}}+{_AT_HOST}(?:[{_LOCAL}]{{0,64}}+{_AT_HOST})*+"
)
# Place, date of birth, number within the day, check digit (GB 11643-1999).
_RESIDENT = re.compile(
    rf"{_BEFORE}[1-9][0-9]{{5}}(?:18|19|20)[0-9]{{2}}(?:0[1-9]|1[0-2])"
    rf"(?:0[1-9]|[12][0-9]|3[01])[0-9]{{3}}[0-9Xx]{_AFTER}"
)
# First digits and lengths that are given out (ISO/IEC 7812): 3 American Express and Diners,
# 4 Visa, 2 and 5 Mastercard, 6 UnionPay; in one piece, in fours, or as American Express prints it.
_CARD = re.compile(
    rf"{_BEFORE}(?:[2-6][0-9]{{15}}(?:[0-9]{{3}})?|4[0-9]{{12}}|3[0-9]{{13,14}}"
    r"|[2-6][0-9]{3}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{3})?"
    rf"|3[47][0-9]{{2}}([ -])[0-9]{{6}}\2[0-9]{{5}}){_AFTER}"
)
# _BEFORE stands behind the first digit, which makes the search jump from digit to digit.
_IPV4 = re.compile(rf"[0-9](?<!{_WORD}.)(?<![0-9][.+].)[0-9]{{0,2}}(?:\.[0-9]{{1,3}}){{3}}{_AFTER}")
_IPV6 = re.compile(
    r"(?<![0-9A-Za-z_:.])[0-9A-Fa-f:]{2,38}[0-9A-Fa-f](?![0-9A-Za-z_]|:[0-9A-Fa-f:]|\.[0-9])"
)
_PHONES = tuple(
    re.compile(pattern + _AFTER)
    for pattern in (
        rf"{_BEFORE}(?:(?:\+|00)?86[- ]?)?1[3-9][0-9][- ]?[0-9]{{4}}[- ]?[0-9]{{4}}",  # China
        rf"(?<!{_WORD})\+[1-9](?:[-. ()]{{0,2}}[0-9]){{8,14}}",  # anywhere: E.164, 9 to 15 digits
        # North America, whose area codes begin with 2 to 9: a time in seconds begins with 1
        rf"(?:{_BEFORE}\+?1[-. ]?)?\([2-9][0-9]{{2}}\)[-. ]{{0,2}}[0-9]{{3}}[-. ]?[0-9]{{4}}",
        rf"{_BEFORE}(?:\+?1[-. ]?)?[2-9][0-9]{{2}}[-. ]?[0-9]{{3}}[-. ]?[0-9]{{4}}",
        rf"(?:\(0[0-9]{{2,3}}\) ?|{_BEFORE}0[0-9]{{2,3}}-)[1-9][0-9]{{6,7}}",  # a Chinese city
    )
)
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")  # of an address; these two are quick to look for
_NINE_DIGITS = re.compile(r"[0-9](?:[-. ()]{0,2}[0-9]){8}")  # the fewest that a number has
_RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # ISO 7064, MOD 11-2
_RESIDENT_CHECKS = "10X98765432"


def mask(text: str) -> tuple[str, dict[str, int]]:
    """The text with personal data replaced, and how much of each kind there was.

    The words are those of the course CS336 (assignment 4): |||EMAIL_ADDRESS|||,
    |||PHONE_NUMBER||| and |||IP_ADDRESS|||; and likewise |||RESIDENT_ID||| for Chinese identity
    numbers whose check digit is right, |||CARD_NUMBER||| for bank cards that pass Luhn's test.
    The counts leave out kinds that were not found. Masking twice changes nothing more.
    """
    counts: Counter[str] = Counter()
    if "@" in text:
        text = _replace(text, _EMAIL, "EMAIL_ADDRESS", counts)
    if _COLONS.search(text):
        text = _replace(text, _IPV6, "IP_ADDRESS", counts, _is_ip_address)
    text = _replace(text, _IPV4, "IP_ADDRESS", counts, _is_ip_address)
    if _NINE_DIGITS.search(text):
        text = _replace(text, _RESIDENT, "RESIDENT_ID", counts, _is_resident)
        text = _replace(text, _CARD, "CARD_NUMBER", counts, _is_card)
        for pattern in _PHONES:
            text = _replace(text, pattern, "PHONE_NUMBER", counts)
    return text, dict(counts)


def _replace(
    text: str,
    pattern: re.Pattern[str],
    kind: str,
    counts: Counter[str],
    is_true: Callable[[str], bool] | None = None,
) -> str:
    def replacement(found: re.Match[str]) -> str:
        if is_true and not is_true(found[0]):
            return found[0]
        counts[kind] += 1
        return f"|||{kind}|||"

    return pattern.sub(replacement, text)


def _is_resident(number: str) -> bool:
    total = sum(weight * int(digit) for weight, digit in zip(_RESIDENT_WEIGHTS, number))
    return _RESIDENT_CHECKS[total % 11] == number[17].upper()


def _is_card(number: str) -> bool:
    """Luhn's test (ISO/IEC 7812-1): every second digit from the right is doubled."""
    digits = [int(char) for char in reversed(number) if char.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_ip_address(written: str) -> bool:
    """Whether it is the address of a certain machine: not 127.0.0.1, and no C++ name `a::b`."""
    if ":" in written and (written.count(":") < 3 or not re.search("[0-9]", written)):
        return False
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)
