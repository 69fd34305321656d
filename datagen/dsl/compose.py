"""Queries and what they mean, composed from a schema: each phrase comes with its condition.

Composer(schema_row, rng).draw()
# {"query": "tickets whose status is open since 3 May 2026", "language": "en",
#  "steps": [[{"field": "status", "operator": "is", "value": "open"}]],
#  "time": {"kind": "since", "day": "2026-05-03"}}
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from datagen.dsl import phrases, times
from datagen.dsl.phrases import AND, EITHER, OR, Language, bare
from datagen.dsl.specs import label, type_of
from datagen.dsl.speech import Part, Speech
from datagen.dsl.words import HELD_OUT_KINDS, KINDS, Kind

Json = dict[str, Any]

REFUSALS = 0.2
_TIMED = 0.55
_SHORT = 0.45  # queries without relative clauses
_SHAPES = {"one": 20, "two": 34, "three": 18, "group": 26, "steps": 16}


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
        self._speech = Speech(schema, rng, held_out=held_out)
        self._groups = bool(schema.get("groups"))

    def draw(self) -> Json | None:
        """A query with its meaning; None where this draw led to none."""
        rng = self._rng
        language: Language = rng.choice(("en", "fr"))
        self._speech.short = False
        if rng.random() < self._refusals:
            return self._refusal(language)
        self._speech.short = not self._held_out and rng.random() < _SHORT
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
        return {"query": self._speech.finish(words, language), **query}

    # -- queries -----------------------------------------------------------------------------------

    def _steps(self, shape: str, language: Language) -> tuple[str, list[list[Json]]] | None:
        counts = {"one": (1,), "two": (2,), "three": (3,), "group": (self._rng.choice((2, 3)),),
                  "steps": (self._rng.choice((1, 2)), 1)}[shape]  # fmt: skip
        fields = self._rng.sample(self._speech.fields, min(sum(counts), len(self._speech.fields)))
        if len(fields) < sum(counts):
            return None
        parts = [self._speech.condition(field, language) for field in fields]
        if any(part is None for part in parts):
            return None
        found = [part for part in parts if part is not None]
        if shape == "group":
            return self._group(found, language)
        first = self._speech.noun(found[: counts[0]], language)
        nodes = [_in_order(found[: counts[0]])]
        if shape != "steps":
            return first, nodes
        last = found[-1]
        if last.alone and not last.before:  # "puis ceux ouvert" is nobody's French
            return None
        wording = self._rng.choice(phrases.THEN_ONES if last.before else phrases.THEN[language])
        those = "celles" if self._speech.feminine else "ceux"
        return wording.format(a=first, b=last.words, those=those), [*nodes, [last.node]]

    def _group(
        self, parts: Sequence[Part], language: Language
    ) -> tuple[str, list[list[Json]]] | None:
        """The last two as alternatives: of one field ("open or done"), or of two."""
        *others, one, other = parts
        field = self._field_of(one.node)
        if type_of(field) == "enum" and one.node["operator"] == self._speech.operators.get(
            "equals"
        ):
            values = [v for v in field["enum"] if v["const"] != one.node["value"]]
            if not values:
                return None
            second = self._rng.choice(values)
            said = OR[language].join(
                label(value, language) for value in (_by_const(field, one.node["value"]), second)
            )
            nodes = [one.node, {**one.node, "value": second["const"]}]
            if one.alone:
                # Behind another word before the noun, the two would not be the only alternatives.
                free = self._speech.only_value(label(second, language), language)
                if not free or any(part.before or part.alone for part in others):
                    return None
                either = Part(said, {}, before=one.before, alone=True)
                words = self._speech.noun([either, *others], language)
                return words, [[{"any": nodes}, *_in_order(others)]]
            words = self._speech.say(field, "equals", said, language)
        elif one.before or other.before:
            return None
        else:
            words = EITHER[language].format(a=one.words, b=other.words)
            nodes = [one.node, other.node]
        head = self._speech.noun(others, language)
        first = not others or others[-1].before or others[-1].alone
        joined = f"{head}{' ' if first else AND[language]}{words}"
        return joined, [[*_in_order(others), {"any": nodes}]]

    def _field_of(self, node: Mapping[str, Any]) -> Json:
        return next(field for field in self._speech.fields if field["const"] == node["field"])

    def _place_time(self, words: str, time: str) -> str:
        """Mostly at the end; the comma keeps it from being a part of the last condition."""
        if self._rng.random() < 0.15:
            return f"{time}, {words}"
        return f"{words}, {time}"

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
            "query": self._speech.finish(words, language) if kind != "action" else words,
            "language": language,
            "refused": kind,
            "refusal": {"reason": reason, "suggestion": suggestion},
        }

    def _listed(self, names: Sequence[str], english: str, french: str, language: Language) -> str:
        return f"{english if language == 'en' else french} {', '.join(names)}."

    def _all_fields(self, language: Language) -> str:
        names = [str(field["const"]) for field in self._speech.fields]
        return self._listed(names, "Fields:", "Champs :", language)

    def _refuse_unknown_field(self, language: Language) -> tuple[str, str, str] | None:
        """A condition on a field that the schema lacks, alone or beside one that it has."""
        kinds = HELD_OUT_KINDS if self._held_out else KINDS
        kind = self._rng.choice([k for k in kinds if k.type != "boolean"])
        if self._has(kind):
            return None
        any_operator = {name: name for name in phrases.OPERATORS[kind.type]}
        part = self._value_of(kind, language)
        part = part or self._speech.condition(_as_field(kind), language, any_operator)
        if part is None:
            return None
        own = self._rng.choice(self._speech.fields)
        beside = self._speech.condition(own, language) if self._rng.random() < 0.5 else None
        words = self._speech.noun([p for p in (beside, part) if p is not None], language)
        name = kind.english if language == "en" else bare(kind.french)
        reason = f"No field for {name}." if language == "en" else f"Aucun champ pour {name}."
        return words, reason, self._all_fields(language)

    def _value_of(self, kind: Kind, language: Language) -> Part | None:
        """Now and then a field that is lacking is asked for by its value alone: "red cars"."""
        if not kind.values or self._rng.random() < 0.5:
            return None
        value = self._rng.choice(kind.values)
        said = value.english if language == "en" else value.french
        if not self._speech.only_value(said, language, of=0):
            return None
        return Part(said, {}, before=language == "en", alone=True)

    def _has(self, kind: Kind) -> bool:
        """Whether a field of the schema might be meant by this kind's words."""
        own = " ".join(
            f"{f['const']} {f.get('description', '')} {label(f, 'en')} {label(f, 'fr')}".lower()
            for f in self._speech.fields
        )
        words = {*kind.english.split(), *bare(kind.french).split(), *kind.names}
        return any(word.lower() in own for word in words if len(word) > 2)

    def _refuse_unknown_value(self, language: Language) -> tuple[str, str, str] | None:
        """A value that is not in its field's closed set, with the field's name or without."""
        kinds = [k for k in (HELD_OUT_KINDS if self._held_out else KINDS) if k.type == "enum"]
        for field in self._rng.sample(self._speech.fields, len(self._speech.fields)):
            same = [k for k in kinds if k.english == label(field, "en")]
            if type_of(field) != "enum" or not same or "equals" not in self._speech.operators:
                continue
            there = {label(value, "en") for value in field["enum"]}
            missing = [value for value in same[0].values if value.english not in there]
            if not missing:
                continue
            value = self._rng.choice(missing)
            said = value.english if language == "en" else value.french
            alone = self._rng.random() < 0.5 and self._speech.only_value(said, language, of=0)
            text = said if alone else self._speech.say(field, "equals", said, language)
            part = Part(text, {}, before=alone and language == "en", alone=alone)
            words = self._speech.noun([part], language)
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
        field = self._rng.choice(self._speech.fields)
        kind = type_of(field)
        if kind not in ("text", "number", "date"):
            return None
        lacking = [n for n in phrases.OPERATORS[kind] if n not in self._speech.operators]
        # "at least 5" can be said as "more than 4", and "not open" by every other value.
        lacking = [n for n in lacking if _NEAR.get(n) not in self._speech.operators]
        if not lacking:
            return None
        missing = self._rng.choice(lacking)
        part = self._speech.condition(field, language, {missing: missing})
        if part is None:
            return None
        words = self._speech.noun([part], language)
        named = _ASKED[missing][language == "fr"]
        reason = f"No operator for {named}." if language == "en" else (
            f"Aucun opérateur pour {named}."
        )  # fmt: skip
        consts = [*self._speech.operators.values()]
        return words, reason, self._listed(consts, "Operators:", "Opérateurs :", language)

    def _refuse_alternatives(self, language: Language) -> tuple[str, str, str] | None:
        """Alternatives in a schema without groups."""
        # Nothing of it is used; but without this draw a seed would make other rows.
        made = self._steps("two", language)
        if made is None or len(self._speech.fields) < 2:
            return None
        fields = self._rng.sample(self._speech.fields, 2)
        parts = [self._speech.condition(field, language) for field in fields]
        if any(part is None or part.before for part in parts):
            return None
        one, other = (part.words for part in parts if part is not None)
        words = f"{self._speech.noun([], language)} {EITHER[language].format(a=one, b=other)}"
        if language == "en":
            return words, "Alternatives cannot be expressed.", "Ask for one of them at a time."
        return words, "Les alternatives ne sont pas exprimables.", "Demandez-en une à la fois."

    def _refuse_action(self, language: Language) -> tuple[str, str, str]:
        """What is no query at all."""
        noun = self._speech.entity(language)
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


def _in_order(parts: Sequence[Part]) -> list[Json]:
    """Conditions as the words stand: those at the noun come first."""
    return [part.node for part in sorted(parts, key=lambda part: not (part.before or part.alone))]


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
