"""How one schema's conditions are said, each phrase with its condition, and the words around them.

speech = Speech(schema_row, rng)
part = speech.condition(speech.fields[0], "en")
# Part("whose status is open", {"field": "status", "operator": "is", "value": "open"})
speech.finish(speech.noun([part], "en"), "en")      # "show me tickets whose status is open"
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datagen.dsl import phrases, times
from datagen.dsl.phrases import AND, Language, agree, bare, say_condition
from datagen.dsl.specs import canonical_name, label, read_catalog, type_of, words_of
from datagen.dsl.words import POOLS

Json = dict[str, Any]

# Values of texts that are free in a schema of others.
_FREE = "topics"
# Share of closed values that are said without their field, where no other can be meant.
_ALONE = 0.55
_TRUE, _FALSE = ("true", "yes", "y", "1", "on", "oui"), ("false", "no", "n", "0", "off", "non")


@dataclass(frozen=True)
class Part:
    """A phrase and the condition that it says.

    Attributes:
        before: it stands before the noun.
        alone: it is a value without its field.
    """

    words: str
    node: Json
    before: bool = False
    alone: bool = False


class Speech:
    """Says conditions on the fields of one schema.

    Attributes:
        fields: of the schema, as its spec has them.
        operators: canonical name -> the schema's constant.
        short: without relative clauses; set for each query.
    """

    def __init__(
        self, schema: Mapping[str, Any], rng: random.Random, *, held_out: bool = False
    ) -> None:
        """schema: a row of `d_02`; its operators may lack `canonical`."""
        self.fields: list[Json] = [dict(field) for field in schema["fields"]]
        self.operators: dict[str, str] = {}
        self.short = False
        self._rng, self._held_out = rng, held_out
        for operator in schema["operators"]:
            entry = operator if isinstance(operator, Mapping) else {"const": operator}
            const = str(entry["const"])
            name = str(entry.get("canonical") or canonical_name(const, read_catalog()))
            if name:
                self.operators.setdefault(name, const)
        self._labels: Mapping[str, Any] = schema.get("labels") or {}
        self._domain = str(schema.get("domain") or words_of(str(schema["schema_id"])))

    @property
    def feminine(self) -> bool:
        return bool(self._labels.get("feminine"))

    def entity(self, language: Language) -> str:
        """What is asked for, in the plural."""
        return str(self._labels.get(language) or self._domain)

    def condition(
        self, field: Json, language: Language, operators: Mapping[str, str] | None = None
    ) -> Part | None:
        """A condition on a field, with an operator that suits its type and that the schema has.

        Args:
            operators: to choose from in place of the schema's.
        """
        kind = type_of(field)
        operators = self.operators if operators is None else operators
        suited = [name for name in phrases.OPERATORS[kind] if name in operators]
        if not suited:
            return None
        operator = self._rng.choice(suited)
        node = {"field": field["const"], "operator": operators[operator]}
        if kind == "boolean":
            return self._truth(field, node, language)
        if kind == "enum":
            value = self._rng.choice(field["enum"])
            said, const = label(value, language), str(value["const"])
            if self._rng.random() < _ALONE and self.only_value(said, language):
                if operator == "equals":
                    return Part(bare(said), {**node, "value": const}, language == "en", alone=True)
                if (value.get("labels") or {}).get("adjective"):
                    denied = "that are not" if language == "en" else "qui ne sont pas"
                    return Part(f"{denied} {said}", {**node, "value": const})
        elif kind == "number":
            said, const = self._number(field, language)
        elif kind == "date":
            said, const = self._day(language)
        else:
            const = self._text(field, operator)
            said = self._quoted(const, language)
        words = self._without_label(field, operator, said, language) or self.say(
            field, operator, said, language
        )
        return Part(words, {**node, "value": const})

    def only_value(self, said: str, language: Language, *, of: int = 1) -> bool:
        """Whether a value's words are those of so many values of the schema, and no field's."""
        truths = [label(field, language) for field in self.fields if type_of(field) == "boolean"]
        closed = [field["enum"] for field in self.fields if type_of(field) == "enum"]
        values = [label(value, language) for listed in closed for value in listed]
        words, said = [word.casefold() for word in (*values, *truths)], said.casefold()
        alike = [word for word in words if said in word or word in said]
        return len(alike) == of and not {word.casefold() for word in truths} & set(alike)

    def _without_label(self, field: Json, operator: str, said: str, language: Language) -> str:
        """A condition that names no field, where only this one can be meant; else ""."""
        if self._held_out or self._rng.random() < (0.5 if self.short else 0.65):
            return ""
        french = language == "fr"
        unit = (field.get("labels") or {}).get("french_unit" if french else "unit", "")
        if unit and said.endswith(unit):
            units = [(f.get("labels") or {}).get("unit") for f in self.fields]
            own = units.count(field["labels"]["unit"]) == 1
            return phrases.UNIT[operator][french].format(v=said) if own else ""
        people = [f for f in self.fields if f.get("pool") == "people"]
        if operator == "equals" and people == [field]:
            return self._rng.choice(phrases.PERSON[french]).format(v=said)
        return ""

    def say(self, field: Json, operator: str, said: str, language: Language) -> str:
        """A condition that names its field."""
        return say_condition(
            type_of(field), operator, self._label(field, language), said, language, self._rng,
            held_out=self._held_out, short=self.short,
        )  # fmt: skip

    def _label(self, field: Mapping[str, Any], language: Language) -> str:
        said = label(field, language)
        labelled = (field.get("labels") or {}).get(language)
        return said if labelled or language == "en" else f"le champ {said}"

    def _truth(self, field: Json, node: Json, language: Language) -> Part:
        true = self._rng.random() < 0.5
        said = label(field, language)
        before = False
        if language == "en":
            words = f"that are {'' if true else 'not '}{said}"
            if self.short:
                words, before = (said, True) if true else (f"not {said}", False)
        else:
            said = agree(said, feminine=self.feminine)
            words = f"qui sont {said}" if true else f"qui ne sont pas {said}"
            if self.short:
                words = said if true else f"non {said}"
        return Part(words, {**node, "value": _truth_const(field, true=true)}, before)

    def _number(self, field: Json, language: Language) -> tuple[str, str]:
        low, high, step = field.get("range") or (1, 500, 1)
        value = low + step * self._rng.randrange(int((high - low) / step) + 1)
        const = f"{value:g}" if value < 100_000 else str(int(value))
        said = const
        if value in range(1, 13) and self._rng.random() < 0.3:
            said = phrases.NUMBERS[language][int(value)]
        if value >= 1000 and self._rng.random() < 0.3:
            said = f"{int(value):,}".replace(",", "," if language == "en" else " ")
        if language == "fr":
            said = said.replace(".", ",")
        labels = field.get("labels") or {}
        unit = labels.get("unit" if language == "en" else "french_unit", "")
        return (f"{said} {unit}" if unit and self._rng.random() < 0.7 else said), const

    def _day(self, language: Language) -> tuple[str, str]:
        day = times.draw_day(self._rng)
        return times.say_day(day, language, self._rng), day.isoformat()

    def _text(self, field: Json, operator: str) -> str:
        pool = POOLS.get(str(field.get("pool")), POOLS[_FREE])[self._held_out]
        value = self._rng.choice(pool)
        words = value.split()
        if operator in ("equals", "not_equals"):
            return value if len(words) > 1 or field.get("pool") not in ("topics", None) else (
                f"{value} {self._rng.choice(pool)}"
            )  # fmt: skip
        if "-" in value:
            return value.partition("-")[2 * (operator == "ends_with")]
        if operator == "ends_with":
            return words[-1]
        return words[0] if operator == "starts_with" else self._rng.choice(words)

    def _quoted(self, text: str, language: Language) -> str:
        marks = ('"{}"', "'{}'") if language == "en" else ('"{}"', "« {} »")
        return self._rng.choice(("{}", "{}", *marks)).format(text)

    def noun(self, parts: Sequence[Part], language: Language) -> str:
        """The domain with its conditions around it."""
        noun = self.entity(language)
        before = [part.words for part in parts if part.before]
        # A value by itself stands at the noun: behind "whose region is coast and" it would be one
        # of that field's.
        at_noun = [part.words for part in parts if part.alone and not part.before]
        after = [part.words for part in parts if not part.alone and not part.before]
        listed = self.short or (len(after) > 2 and self._rng.random() < 0.5)
        joint = ", " if listed else AND[language]
        # Short conditions run into one another where nothing stands between them.
        comma = "," if self.short and after and self._rng.random() < 0.5 else ""
        said = " ".join([*before, noun, *at_noun])
        return f"{said}{comma} {joint.join(after)}" if after else said

    def finish(self, words: str, language: Language) -> str:
        """A request around the words, with its first letter and its end."""
        rng = self._rng
        lead = rng.choice(phrases.leads(language, held_out=self._held_out))
        if words.startswith(("first ", "d'abord ")) or _starts_with_time(words):
            lead = ""
        if self.feminine:
            lead = lead.replace("quels", "quelles")
        text = f"{lead} {words}".strip()
        if rng.random() < 0.5:
            text = text[:1].upper() + text[1:]
        question = lead.startswith(("could", "what", "can", "peux", "quel"))
        end = "?" if question else "."
        if language == "fr" and question:
            end = " ?"
        return text + (end if rng.random() < 0.4 else "")


def _truth_const(field: Mapping[str, Any], *, true: bool) -> str:
    """How a schema writes that a boolean is so or not: true and false where it does not say."""
    for value in field.get("enum", ()):
        if str(value["const"]).casefold() in (_TRUE if true else _FALSE):
            return str(value["const"])
    return "true" if true else "false"


def _starts_with_time(words: str) -> bool:
    first = words.split(",")[0]
    return first.startswith(_TIME_WORDS) and "," in words


_TIME_WORDS = (
    "today", "yesterday", "from ", "this ", "last ", "in ", "during ", "over ", "since ", "until ",
    "up to ", "on ", "between ", "next ", "within ", "starting ", "no later ",
    "aujourd'hui", "d'", "hier", "ce ", "cette ", "ces ", "du ", "de ", "le ", "la ", "l'", "sur ",
    "en ", "au ", "depuis ", "à partir", "jusqu'", "entre ", "durant ", "courant ", "dès ",
)  # fmt: skip
