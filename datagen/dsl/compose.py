"""Queries and what they mean, composed from a schema: each phrase comes with its condition.

Composer(schema_row, rng).draw()
# {"query": "tickets whose status is open since 3 May 2026", "language": "en",
#  "steps": [[{"field": "status", "operator": "is", "value": "open"}]],
#  "time": {"kind": "since", "day": "2026-05-03"}}
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from datagen.dsl import phrases, times
from datagen.dsl.phrases import AND, EITHER, OR, Language, agree, bare, say_condition
from datagen.dsl.specs import canonical_name, label, read_catalog, type_of, words_of
from datagen.dsl.words import HELD_OUT_KINDS, KINDS, POOLS, Kind

Json = dict[str, Any]

REFUSALS = 0.15
_TIMED = 0.55
_SHORT = 0.45  # queries without relative clauses
_SHAPES = {"one": 24, "two": 30, "three": 12, "group": 30, "steps": 14}
# Values of texts that are free in a schema of others.
_FREE = "topics"


@dataclass(frozen=True)
class _Part:
    """A phrase and the condition that it says; `before` stands before the noun."""

    words: str
    node: Json
    before: bool = False


class Composer:
    """Draws queries of one schema."""

    def __init__(
        self,
        schema: Mapping[str, Any],
        rng: random.Random,
        *,
        held_out: bool = False,
        refusals: float = REFUSALS,
    ) -> None:
        """schema: a row of `d_02`; its operators may lack `canonical`."""
        self._rng, self._held_out, self._refusals = rng, held_out, refusals
        self._fields: list[Json] = [dict(field) for field in schema["fields"]]
        catalog = read_catalog()
        self._operators: dict[str, str] = {}
        for operator in schema["operators"]:
            entry = operator if isinstance(operator, Mapping) else {"const": operator}
            const = str(entry["const"])
            name = str(entry.get("canonical") or canonical_name(const, catalog))
            if name:
                self._operators.setdefault(name, const)
        self._labels: Mapping[str, Any] = schema.get("labels") or {}
        self._domain = str(schema.get("domain") or words_of(str(schema["schema_id"])))
        self._groups = bool(schema.get("groups"))
        self._short = False

    def draw(self) -> Json | None:
        """A query with its meaning; None where this draw led to none."""
        rng = self._rng
        language: Language = rng.choice(("en", "fr"))
        self._short = False
        if rng.random() < self._refusals:
            return self._refusal(language)
        self._short = not self._held_out and rng.random() < _SHORT
        shapes = [shape for shape in _SHAPES if shape != "group" or self._groups]
        shape = rng.choices(shapes, [_SHAPES[s] for s in shapes])[0]
        made = self._steps(shape, language)
        if made is None:
            return None
        words, steps = made
        query: Json = {"language": language, "steps": steps}
        if rng.random() < _TIMED:
            said = times.draw(rng, language, held_out=self._held_out)
            query["time"] = said.time
            words = self._place_time(words, said.words)
        return {"query": self._finish(words, language), **query}

    # -- conditions --------------------------------------------------------------------------------

    def _steps(self, shape: str, language: Language) -> tuple[str, list[list[Json]]] | None:
        counts = {"one": (1,), "two": (2,), "three": (3,), "group": (self._rng.choice((2, 3)),),
                  "steps": (self._rng.choice((1, 2)), 1)}[shape]  # fmt: skip
        fields = self._rng.sample(self._fields, min(sum(counts), len(self._fields)))
        if len(fields) < sum(counts):
            return None
        parts = [self._condition(field, language) for field in fields]
        if any(part is None for part in parts):
            return None
        found = [part for part in parts if part is not None]
        if shape == "group":
            return self._group(found, language)
        first = self._noun(found[: counts[0]], language)
        nodes = [_in_order(found[: counts[0]])]
        if shape != "steps":
            return first, nodes
        last = found[-1]
        if last.before:  # "then those open" is nobody's English
            return None
        wording = self._rng.choice(phrases.THEN[language])
        those = "celles" if self._feminine else "ceux"
        return wording.format(a=first, b=last.words, those=those), [*nodes, [last.node]]

    def _group(
        self, parts: Sequence[_Part], language: Language
    ) -> tuple[str, list[list[Json]]] | None:
        """The last two as alternatives: of one field ("open or done"), or of two."""
        *others, one, other = parts
        if other.before or one.before:
            return None
        field = self._field_of(one.node)
        if type_of(field) == "enum" and one.node["operator"] == self._operators.get("equals"):
            values = [v for v in field["enum"] if v["const"] != one.node["value"]]
            if not values:
                return None
            second = self._rng.choice(values)
            said = OR[language].join(
                label(value, language) for value in (_by_const(field, one.node["value"]), second)
            )
            words = self._say(field, "equals", said, language)
            nodes = [one.node, {**one.node, "value": second["const"]}]
        else:
            words = EITHER[language].format(a=one.words, b=other.words)
            nodes = [one.node, other.node]
        head = self._noun(others, language)
        joined = f"{head}{AND[language] if others and not others[-1].before else ' '}{words}"
        return joined, [[*_in_order(others), {"any": nodes}]]

    def _field_of(self, node: Mapping[str, Any]) -> Json:
        return next(field for field in self._fields if field["const"] == node["field"])

    def _condition(self, field: Json, language: Language) -> _Part | None:
        """A condition on a field, with an operator that suits its type and that the schema has."""
        kind = type_of(field)
        suited = [name for name in phrases.OPERATORS[kind] if name in self._operators]
        if not suited:
            return None
        operator = self._rng.choice(suited)
        node = {"field": field["const"], "operator": self._operators[operator]}
        if kind == "boolean":
            return self._truth(field, node, language)
        if kind == "enum":
            value = self._rng.choice(field["enum"])
            said, const = label(value, language), str(value["const"])
            labels = value.get("labels") or {}
            adjective = language == "en" and labels.get("adjective")
            if operator == "equals" and self._rng.random() < 0.4:
                if adjective:
                    return _Part(said, {**node, "value": const}, before=True)
                if self._short and self._only_value(said, language):
                    return _Part(said, {**node, "value": const})
        elif kind == "number":
            said, const = self._number(field, language)
        elif kind == "date":
            said, const = self._day(language)
        else:
            const = self._text(field, operator)
            said = self._quoted(const, language)
        words = self._without_label(field, operator, said, language) or self._say(
            field, operator, said, language
        )
        return _Part(words, {**node, "value": const})

    def _only_value(self, said: str, language: Language) -> bool:
        """Whether a value's words are no other value's of the schema."""
        values = [label(v, language) for f in self._fields for v in f.get("enum", ())]
        return sum(said in value or value in said for value in values) == 1

    def _without_label(self, field: Json, operator: str, said: str, language: Language) -> str:
        """A condition that names no field, where only this one can be meant; else ""."""
        if not self._short or self._rng.random() < 0.5:
            return ""
        french = language == "fr"
        unit = (field.get("labels") or {}).get("french_unit" if french else "unit", "")
        if unit and said.endswith(unit):
            units = [(f.get("labels") or {}).get("unit") for f in self._fields]
            own = units.count(field["labels"]["unit"]) == 1
            return phrases.UNIT[operator][french].format(v=said) if own else ""
        people = [f for f in self._fields if f.get("pool") == "people"]
        if operator == "equals" and people == [field]:
            return self._rng.choice(phrases.PERSON[french]).format(v=said)
        return ""

    def _say(self, field: Json, operator: str, said: str, language: Language) -> str:
        return say_condition(
            type_of(field), operator, self._label(field, language), said, language, self._rng,
            held_out=self._held_out, short=self._short,
        )  # fmt: skip

    def _label(self, field: Mapping[str, Any], language: Language) -> str:
        said = label(field, language)
        labelled = (field.get("labels") or {}).get(language)
        return said if labelled or language == "en" else f"le champ {said}"

    def _truth(self, field: Json, node: Json, language: Language) -> _Part:
        true = self._rng.random() < 0.5
        said = label(field, language)
        before = False
        if language == "en":
            words = f"that are {'' if true else 'not '}{said}"
            if self._short:
                words, before = (said, True) if true else (f"not {said}", False)
        else:
            said = agree(said, feminine=self._feminine)
            words = f"qui sont {said}" if true else f"qui ne sont pas {said}"
            if self._short:
                words = said if true else f"non {said}"
        return _Part(words, {**node, "value": "true" if true else "false"}, before)

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
        day = date(2023, 1, 1) + timedelta(days=self._rng.randrange(4 * 365))
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

    # -- sentences ---------------------------------------------------------------------------------

    @property
    def _feminine(self) -> bool:
        return bool(self._labels.get("feminine"))

    def _noun(self, parts: Sequence[_Part], language: Language) -> str:
        """The domain with its conditions around it."""
        noun = str(self._labels.get(language) or self._domain)
        before = [part.words for part in parts if part.before]
        after = [part.words for part in parts if not part.before]
        listed = self._short or (len(after) > 2 and self._rng.random() < 0.5)
        joint = ", " if listed else AND[language]
        # Short conditions run into one another where nothing stands between them.
        comma = "," if self._short and after and self._rng.random() < 0.5 else ""
        return " ".join([*before, noun + comma, *([joint.join(after)] if after else [])])

    def _place_time(self, words: str, time: str) -> str:
        """Mostly at the end; the comma keeps it from being a part of the last condition."""
        if self._rng.random() < 0.15:
            return f"{time}, {words}"
        return f"{words}, {time}"

    def _finish(self, words: str, language: Language) -> str:
        rng = self._rng
        lead = rng.choice(phrases.leads(language, held_out=self._held_out))
        if words.startswith(("first ", "d'abord ")) or _starts_with_time(words):
            lead = ""
        if self._feminine:
            lead = lead.replace("quels", "quelles")
        text = f"{lead} {words}".strip()
        if rng.random() < 0.5:
            text = text[:1].upper() + text[1:]
        question = lead.startswith(("could", "what", "can", "peux", "quel"))
        end = "?" if question else "."
        if language == "fr" and question:
            end = " ?"
        return text + (end if rng.random() < 0.4 else "")

    # -- refusals ----------------------------------------------------------------------------------

    def _refusal(self, language: Language) -> Json | None:
        kinds = ["unknown_field", "unknown_value", "no_operator", "action"]
        if not self._groups:
            kinds.append("alternatives")
        kind = self._rng.choice(kinds)
        made = getattr(self, f"_refuse_{kind}")(language)
        if made is None:
            return None
        words, reason, suggestion = made
        return {
            "query": self._finish(words, language) if kind != "action" else words,
            "language": language,
            "refused": kind,
            "refusal": {"reason": reason, "suggestion": suggestion},
        }

    def _listed(self, names: Sequence[str], english: str, french: str, language: Language) -> str:
        return f"{english if language == 'en' else french} {', '.join(names)}."

    def _all_fields(self, language: Language) -> str:
        names = [str(field["const"]) for field in self._fields]
        return self._listed(names, "Fields:", "Champs :", language)

    def _refuse_unknown_field(self, language: Language) -> tuple[str, str, str] | None:
        """A condition on a field that the schema lacks, alone or beside one that it has."""
        kinds = HELD_OUT_KINDS if self._held_out else KINDS
        kind = self._rng.choice([k for k in kinds if k.type != "boolean"])
        if self._has(kind):
            return None
        foreign = _as_field(kind)
        self_operators = self._operators
        self._operators = {name: name for name in phrases.OPERATORS[kind.type]}
        part = self._condition(foreign, language)
        self._operators = self_operators
        if part is None:
            return None
        own = self._rng.choice(self._fields)
        beside = self._condition(own, language) if self._rng.random() < 0.5 else None
        words = self._noun([p for p in (beside, part) if p is not None], language)
        name = kind.english if language == "en" else bare(kind.french)
        reason = f"No field for {name}." if language == "en" else f"Aucun champ pour {name}."
        return words, reason, self._all_fields(language)

    def _has(self, kind: Kind) -> bool:
        """Whether a field of the schema might be meant by this kind's words."""
        own = " ".join(
            f"{f['const']} {f.get('description', '')} {label(f, 'en')} {label(f, 'fr')}".lower()
            for f in self._fields
        )
        words = {*kind.english.split(), *bare(kind.french).split(), *kind.names}
        return any(word.lower() in own for word in words if len(word) > 2)

    def _refuse_unknown_value(self, language: Language) -> tuple[str, str, str] | None:
        """A value that is not in its field's closed set."""
        kinds = [k for k in (HELD_OUT_KINDS if self._held_out else KINDS) if k.type == "enum"]
        for field in self._rng.sample(self._fields, len(self._fields)):
            same = [k for k in kinds if k.english == label(field, "en")]
            if type_of(field) != "enum" or not same or "equals" not in self._operators:
                continue
            there = {label(value, "en") for value in field["enum"]}
            missing = [value for value in same[0].values if value.english not in there]
            if not missing:
                continue
            value = self._rng.choice(missing)
            said = value.english if language == "en" else value.french
            words = self._noun([_Part(self._say(field, "equals", said, language), {})], language)
            name = field["const"]
            consts = [str(v["const"]) for v in field["enum"]]
            reason = (
                f"{name} has no value {said}."
                if language == "en"
                else f"{name} n'a pas de valeur {said}."
            )
            return words, reason, self._listed(consts, "Values:", "Valeurs :", language)
        return None

    def _refuse_no_operator(self, language: Language) -> tuple[str, str, str] | None:
        """A comparison that the schema has no operator for, nor another that says the same."""
        field = self._rng.choice(self._fields)
        kind = type_of(field)
        if kind not in ("text", "number", "date"):
            return None
        lacking = [n for n in phrases.OPERATORS[kind] if n not in self._operators]
        # "at least 5" can be said as "more than 4", and "not open" by every other value.
        lacking = [n for n in lacking if _NEAR.get(n) not in self._operators]
        if not lacking:
            return None
        missing = self._rng.choice(lacking)
        own = self._operators
        self._operators = {missing: missing}
        part = self._condition(field, language)
        self._operators = own
        if part is None:
            return None
        words = self._noun([part], language)
        named = _ASKED[missing][language == "fr"]
        reason = f"No operator for {named}." if language == "en" else (
            f"Aucun opérateur pour {named}."
        )  # fmt: skip
        consts = [*own.values()]
        return words, reason, self._listed(consts, "Operators:", "Opérateurs :", language)

    def _refuse_alternatives(self, language: Language) -> tuple[str, str, str] | None:
        """Alternatives in a schema without groups."""
        made = self._steps("two", language)
        if made is None or len(self._fields) < 2:
            return None
        fields = self._rng.sample(self._fields, 2)
        parts = [self._condition(field, language) for field in fields]
        if any(part is None or part.before for part in parts):
            return None
        one, other = (part.words for part in parts if part is not None)
        words = f"{self._noun([], language)} {EITHER[language].format(a=one, b=other)}"
        if language == "en":
            return words, "Alternatives cannot be expressed.", "Ask for one of them at a time."
        return words, "Les alternatives ne sont pas exprimables.", "Demandez-en une à la fois."

    def _refuse_action(self, language: Language) -> tuple[str, str, str]:
        """What is no query at all."""
        noun = str(self._labels.get(language) or self._domain)
        words = self._rng.choice(phrases.actions(language, held_out=self._held_out))
        if language == "en":
            return words.format(n=noun), "This is no query.", self._all_fields(language)
        return words.format(n=noun), "Ce n'est pas une requête.", self._all_fields(language)


# Of an operator, the one that says the same with the next value.
_NEAR = {"gt": "gte", "gte": "gt", "lt": "lte", "lte": "lt"}
_ASKED = {
    "equals": ("equality", "l'égalité"),
    "not_equals": ("inequality", "l'inégalité"),
    "contains": ("parts of texts", "les parties de textes"),
    "not_contains": ("parts that are lacking", "les parties absentes"),
    "starts_with": ("beginnings", "les débuts"),
    "ends_with": ("endings", "les fins"),
    "gt": ("more than a value", "plus qu'une valeur"),
    "gte": ("at least a value", "au moins une valeur"),
    "lt": ("less than a value", "moins qu'une valeur"),
    "lte": ("at most a value", "au plus une valeur"),
}


def _in_order(parts: Sequence[_Part]) -> list[Json]:
    """Conditions as the words stand: those before the noun come first."""
    return [part.node for part in sorted(parts, key=lambda part: not part.before)]


def _by_const(field: Mapping[str, Any], const: str) -> Mapping[str, Any]:
    return next(value for value in field["enum"] if value["const"] == const)


def _as_field(kind: Kind) -> Json:
    """A kind as a field of a spec, for saying a condition on it."""
    return {
        "const": kind.names[0],
        "type": kind.type,
        "labels": {"en": kind.english, "fr": kind.french, "unit": kind.unit,
                   "french_unit": kind.french_unit},
        "enum": [
            {"const": v.const, "labels": {"en": v.english, "fr": v.french}} for v in kind.values
        ],
        "range": [kind.low, kind.high, kind.step],
        "pool": kind.pool,
    }  # fmt: skip


def _starts_with_time(words: str) -> bool:
    first = words.split(",")[0]
    return first.startswith(_TIME_WORDS) and "," in words


_TIME_WORDS = (
    "today", "yesterday", "from ", "this ", "last ", "in ", "during ", "over ", "since ", "until ",
    "up to ", "on ", "between ", "next ", "within ", "starting ", "no later ",
    "aujourd'hui", "d'", "hier", "ce ", "cette ", "ces ", "du ", "de ", "le ", "la ", "l'", "sur ",
    "en ", "au ", "depuis ", "à partir", "jusqu'", "entre ", "durant ", "courant ", "dès ",
)  # fmt: skip
