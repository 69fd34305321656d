"""Number words, English and French."""

from __future__ import annotations

ONES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen""".split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = """zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh
twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth
twenty-first twenty-second twenty-third twenty-fourth twenty-fifth twenty-sixth twenty-seventh
twenty-eighth twenty-ninth thirtieth thirty-first""".split()

FRENCH_ONES = """zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze
quinze seize dix-sept dix-huit dix-neuf""".split()
FRENCH_TENS = "_ _ vingt trente quarante cinquante soixante".split()


def english(number: int, hyphen: bool = True) -> str:
    """0 to 999,999 in words."""
    if number < 20:
        return ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        join = "-" if hyphen else " "
        return TENS[tens] + (join + ONES[ones] if ones else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{ONES[hundreds]} hundred" + (f" and {english(rest, hyphen)}" if rest else "")
    thousands, rest = divmod(number, 1000)
    if not rest:
        return f"{english(thousands, hyphen)} thousand"
    join = " and " if rest < 100 else " "
    return f"{english(thousands, hyphen)} thousand{join}{english(rest, hyphen)}"


def french(number: int) -> str:
    """0 to 99 in French words."""
    if number < 20:
        return FRENCH_ONES[number]
    if number < 70:
        tens, ones = divmod(number, 10)
        if not ones:
            return FRENCH_TENS[tens]
        return f"{FRENCH_TENS[tens]} et un" if ones == 1 else f"{FRENCH_TENS[tens]}-{french(ones)}"
    if number < 80:
        return "soixante et onze" if number == 71 else f"soixante-{french(number - 60)}"
    rest = number - 80
    return "quatre-vingts" if not rest else f"quatre-vingt-{french(rest)}"
