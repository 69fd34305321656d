"""How a condition is said in English and in French, and the words around conditions.

Each wording says its operator unmistakably: "over 50" is gt and never gte, "by 3 May" is lte.
"""

from __future__ import annotations

import random
import re
from typing import Literal

Language = Literal["en", "fr"]

# (type of field, canonical operator) -> (English, French). {l} label, {b} label without article,
# {v} value as it is said.
_EQUALS = (
    ("whose {l} is {v}", "with {v} as {l}", "where the {l} is {v}"),
    ("dont {l} est {v}", "avec {v} comme {b}", "où {l} est {v}"),
)
_NOT_EQUALS = (
    ("whose {l} is not {v}", "where the {l} is anything but {v}", "with a {l} other than {v}"),
    ("dont {l} n'est pas {v}", "avec un autre choix que {v} comme {b}",
     "où {l} est tout sauf {v}"),
)  # fmt: skip
_MORE = (
    ("whose {l} is over {v}", "with a {l} above {v}", "with a {l} of more than {v}"),
    ("dont {l} dépasse {v}", "avec {l} au-dessus de {v}", "où {l} est de plus de {v}"),
)
_AT_LEAST = (
    ("whose {l} is at least {v}", "with a {l} of {v} or more"),
    ("dont {l} est d'au moins {v}", "où {l} est de {v} ou plus"),
)
_LESS = (
    ("whose {l} is under {v}", "with a {l} below {v}", "with a {l} of less than {v}"),
    ("dont {l} est de moins de {v}", "avec {l} en dessous de {v}"),
)
_AT_MOST = (
    ("whose {l} is at most {v}", "with a {l} of {v} or less"),
    ("dont {l} est d'au plus {v}", "où {l} ne dépasse pas {v}"),
)
_SAID = {
    ("enum", "equals"): _EQUALS,
    ("enum", "not_equals"): _NOT_EQUALS,
    ("text", "equals"): _EQUALS,
    ("text", "not_equals"): _NOT_EQUALS,
    ("text", "contains"): (
        ("whose {l} contains {v}", "with {v} somewhere in the {l}", "whose {l} mentions {v}"),
        ("dont {l} contient {v}", "avec {v} quelque part dans {l}", "dont {l} mentionne {v}"),
    ),
    ("text", "not_contains"): (
        ("whose {l} does not contain {v}", "without {v} anywhere in the {l}"),
        ("dont {l} ne contient pas {v}", "sans {v} dans {l}"),
    ),
    ("text", "starts_with"): (
        ("whose {l} starts with {v}", "whose {l} begins with {v}"),
        ("dont {l} commence par {v}", "dont {l} débute par {v}"),
    ),
    ("text", "ends_with"): (
        ("whose {l} ends with {v}", "with {v} at the end of the {l}"),
        ("dont {l} se termine par {v}", "dont {l} finit par {v}"),
    ),
    ("number", "equals"): (
        ("whose {l} is exactly {v}", "with a {l} of exactly {v}"),
        ("dont {l} est exactement de {v}", "avec exactement {v} comme {b}"),
    ),
    ("number", "gt"): _MORE,
    ("number", "gte"): _AT_LEAST,
    ("number", "lt"): _LESS,
    ("number", "lte"): _AT_MOST,
    ("date", "equals"): (
        ("whose {l} is {v}", "with {v} as {l}"),
        ("dont {l} est le {v}", "avec le {v} comme {b}"),
    ),
    ("date", "gt"): (
        ("whose {l} is after {v}", "with a {l} later than {v}"),
        ("dont {l} tombe après le {v}", "avec {l} après le {v}"),
    ),
    ("date", "gte"): (
        ("whose {l} is {v} or later", "with a {l} no earlier than {v}"),
        ("dont {l} est le {v} ou plus tard", "avec {l} au plus tôt le {v}"),
    ),
    ("date", "lt"): (
        ("whose {l} is before {v}", "with a {l} earlier than {v}"),
        ("dont {l} tombe avant le {v}", "avec {l} avant le {v}"),
    ),
    ("date", "lte"): (
        ("whose {l} is {v} or earlier", "with a {l} no later than {v}"),
        ("dont {l} est le {v} ou plus tôt", "avec {l} au plus tard le {v}"),
    ),
}
# Without the relative clause, as people type: {b} is the label alone.
_SHORT = {
    ("enum", "equals"): (
        ("{b} {v}", "with {v} {b}", "{v} {b}", "of {b} {v}"),
        ("{b} {v}", "de {b} {v}", "en {b} {v}"),
    ),
    ("enum", "not_equals"): (
        ("any {b} but {v}", "of no {v} {b}"),
        ("{b} autre que {v}", "sauf {b} {v}"),
    ),
    ("text", "equals"): (("{b} {v}", "with {b} {v}"), ("{b} {v}", "avec {b} {v}")),
    ("text", "not_equals"): (("any {b} but {v}",), ("{b} autre que {v}",)),
    ("text", "contains"): (
        ("{v} in the {b}", "{b} containing {v}", "mentioning {v} in the {b}"),
        ("{v} dans {l}", "{b} contenant {v}"),
    ),
    ("text", "not_contains"): (("no {v} in the {b}",), ("pas de {v} dans {l}",)),
    ("text", "starts_with"): (("{b} starting with {v}",), ("{b} commençant par {v}",)),
    ("text", "ends_with"): (("{b} ending in {v}",), ("{b} finissant par {v}",)),
    ("number", "equals"): (("{b} {v}", "exactly {v} {b}"), ("{b} de {v}", "{b} : {v}")),
    ("number", "gt"): (
        ("{b} over {v}", "{b} above {v}", "more than {v} {b}"),
        ("{b} de plus de {v}", "{b} au-dessus de {v}"),
    ),
    ("number", "gte"): (("{b} {v} or more", "{b} from {v} up"), ("{b} d'au moins {v}",)),
    ("number", "lt"): (
        ("{b} under {v}", "{b} below {v}", "less than {v} {b}"),
        ("{b} de moins de {v}", "{b} en dessous de {v}"),
    ),
    ("number", "lte"): (("{b} {v} or less", "{b} up to {v}"), ("{b} d'au plus {v}",)),
    ("date", "equals"): (("{b} {v}",), ("{b} le {v}",)),
    ("date", "gt"): (("{b} after {v}", "{b} later than {v}"), ("{b} après le {v}",)),
    ("date", "gte"): (("{b} from {v} on",), ("{b} à partir du {v}",)),
    ("date", "lt"): (("{b} before {v}", "{b} earlier than {v}"), ("{b} avant le {v}",)),
    ("date", "lte"): (("{b} by {v}",), ("{b} le {v} au plus tard",)),
}
# Where only one field can be meant: by the unit of a number, a person's name, a value.
UNIT = {
    "equals": ("of exactly {v}", "d'exactement {v}"),
    "gt": ("over {v}", "de plus de {v}"),
    "gte": ("of at least {v}", "d'au moins {v}"),
    "lt": ("under {v}", "de moins de {v}"),
    "lte": ("of at most {v}", "d'au plus {v}"),
}
PERSON = (("of {v}", "by {v}", "for {v}"), ("de {v}", "par {v}"))
NUMBERS = {
    "en": "zero one two three four five six seven eight nine ten eleven twelve".split(),
    "fr": "zéro un deux trois quatre cinq six sept huit neuf dix onze douze".split(),
}

_ELIDED = re.compile(r"\bde (?=[aeiouéèêâîôAEIOUÉ])")

# Of held-out rows alone.
_HELD_OUT = {
    ("enum", "equals"): (("having {v} for {l}",), ("ayant {v} pour {b}",)),
    ("enum", "not_equals"): (("whose {l} differs from {v}",), ("dont {l} diffère de {v}",)),
    ("text", "equals"): (("having {v} for {l}",), ("ayant {v} pour {b}",)),
    ("text", "contains"): (("having {v} within the {l}",), ("ayant {v} au sein de {l}",)),
    ("text", "starts_with"): (("whose {l} opens with {v}",), ("dont {l} s'ouvre sur {v}",)),
    ("text", "ends_with"): (("whose {l} closes with {v}",), ("dont {l} s'achève par {v}",)),
    ("number", "gt"): (("whose {l} exceeds {v}",), ("dont {l} excède {v}",)),
    ("number", "gte"): (("whose {l} is not below {v}",), ("dont {l} n'est pas sous {v}",)),
    ("number", "lt"): (("whose {l} stays below {v}",), ("dont {l} reste sous {v}",)),
    ("number", "lte"): (("whose {l} does not exceed {v}",), ("dont {l} n'excède pas {v}",)),
}
OPERATORS = {
    kind: tuple(operator for of, operator in _SAID if of == kind)
    for kind in ("enum", "text", "number", "date")
} | {"boolean": ("equals",)}

LEADS = {
    "en": ("show me", "list", "find", "give me", "I need", "look up", "search for", "display",
           "pull up", "get", "could you show me", "I am looking for", "", "", "all"),
    "fr": ("montre-moi les", "liste les", "trouve les", "donne-moi les", "je cherche les",
           "affiche les", "il me faut les", "peux-tu me montrer les", "recherche les", "", "",
           "quels sont les"),
}  # fmt: skip
_HELD_OUT_LEADS = {
    "en": ("fetch", "bring up", "can I see", "what are the", ""),
    "fr": ("fais voir les", "sors les", "j'aimerais voir les", ""),
}
THEN = {
    "en": ("{a}, then those {b}", "first {a}, then those {b}", "{a}, and after that those {b}"),
    "fr": ("{a}, puis {those} {b}", "d'abord {a}, ensuite {those} {b}"),
}
# Where the last condition stands before its noun.
THEN_ONES = ("{a}, then the {b} ones", "first {a}, then the {b} ones", "{a}, then {b} ones")
EITHER = {"en": "either {a} or {b}", "fr": "soit {a}, soit {b}"}
AND = {"en": " and ", "fr": " et "}
OR = {"en": " or ", "fr": " ou "}

# Requests that are no queries; {n} is the entity in the plural.
ACTIONS = {
    "en": ("delete all {n}", "create a report about the {n}", "send the {n} to my colleague",
           "how are you today", "archive every one of the {n}", "tell me a joke about {n}",
           "count the {n} for me", "what is the average number of {n}", "rename the {n}"),
    "fr": ("supprime tous les {n}", "crée un rapport sur les {n}", "envoie les {n} à mon collègue",
           "comment vas-tu", "raconte une blague sur les {n}", "compte les {n}",
           "quelle est la moyenne des {n}", "renomme les {n}"),
}  # fmt: skip
_HELD_OUT_ACTIONS = {
    "en": ("print the {n} twice", "write a poem about {n}", "erase the {n}", "add up the {n}"),
    "fr": ("imprime les {n}", "écris un poème sur les {n}", "efface les {n}",
           "fais la somme des {n}"),
}  # fmt: skip


def say_condition(
    kind: str,
    operator: str,
    label: str,
    value: str,
    language: Language,
    rng: random.Random,
    *,
    held_out: bool = False,
    short: bool = False,
) -> str:
    """A condition after the noun.

    Args:
        label: of the field, in French with its article.
        value: as it is said.
        short: without a relative clause.
    """
    said = (_SHORT if short else _SAID)[kind, operator]
    if held_out:
        said = _HELD_OUT.get((kind, operator), said)
    wording = rng.choice(said[language == "fr"])
    text = wording.format(l=label, b=bare(label), v=value)
    if language == "en" and label[:1] in "aeiou":
        return text.replace("with a " + label, "with an " + label)
    if language == "fr":
        text = _ELIDED.sub("d'", text)
        return text.replace(" de le ", " du ").replace(" de les ", " des ")
    return text


def bare(label: str) -> str:
    """A French label without its article."""
    for article in ("le ", "la ", "les ", "l'"):
        if label.startswith(article):
            return label[len(article) :]
    return label


def agree(adjective: str, *, feminine: bool) -> str:
    """A French adjective in the plural."""
    return adjective + ("es" if feminine else "s")


def leads(language: Language, *, held_out: bool) -> tuple[str, ...]:
    return (_HELD_OUT_LEADS if held_out else LEADS)[language]


def actions(language: Language, *, held_out: bool) -> tuple[str, ...]:
    return (_HELD_OUT_ACTIONS if held_out else ACTIONS)[language]
