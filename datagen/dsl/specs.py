"""Domain specs of the offline generator, and the operators of a schema.

A spec of ours also holds `labels`: how people say its domain, fields and values in English and
French. One without them (a teacher's, a user's) is read by its constants and descriptions.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datagen.dsl.phrases import bare
from datagen.dsl.words import (
    ENTITIES,
    HELD_OUT_ENTITIES,
    HELD_OUT_KINDS,
    KINDS,
    Entity,
    Kind,
    Value,
)
from livery.errors import UserError
from livery.reading import read_json

Json = dict[str, Any]

CATALOG = Path(__file__).with_name("operator_catalog.json")
PROMPTS = Path(__file__).with_name("domain_prompts.jsonl")

_FIELD_STYLES = ("plain", "plain", "prefix", "long", "camel", "upper", "code")
_VALUE_STYLES = ("plain", "plain", "plain", "upper", "title", "code")
# How a schema writes true and false.
_TRUTHS = (*(("true", "false"),) * 2, ("yes", "no"), ("Y", "N"), ("1", "0"), ("on", "off"))
_YES_NO = (("yes", "oui"), ("no", "non"))
# What a field's description makes of its label, besides leaving it as it is.
_DESCRIBED = {
    "enum": ("{label} of the {one}", "which {label}"),
    "text": ("{label} of the {one}", "the {label}"),
    "people": ("name of the {label}", "who the {label} is"),
    "number": ("{label} of the {one}", "the {label}"),
    "date": ("{label} of the {one}", "day: {label}"),
    "boolean": ("{label} or not", "whether it is {label}"),
}
FEWEST, MOST = 4, 7  # fields of a domain
# Characters of fields and values: with the rest of the prompt and the answer a row then fits the
# 2,048 tokens that the embedded base reads.
LARGEST = 1_350
# A schema whose ASTs take a group of conditions: one in so many.
_GROUPS = 2


def make_spec(
    rng: random.Random, schema_id: str, domain: str = "", *, held_out: bool = False
) -> Json:
    """The spec of a domain; of a random one where none is named.

    Args:
        domain: one of the entities; a domain that is none of them gets fields that suit any.
    """
    known = HELD_OUT_ENTITIES if held_out else ENTITIES
    entity = _entity(domain) if domain else rng.choice(known)
    pool = HELD_OUT_KINDS if held_out else KINDS
    suited = [kind for kind in pool if not entity.groups or kind.groups & entity.groups]
    chosen = _choose(rng, suited if len(suited) >= FEWEST else [*pool])
    style, bilingual = rng.choice(_FIELD_STYLES), rng.random() < 0.6
    fields = [
        _field(rng, kind, entity, _const(style, kind, entity, at, rng), bilingual=bilingual)
        for at, kind in enumerate(chosen, start=1)
    ]
    while _size(fields) > LARGEST:
        _shorten(fields)
    groups = rng.randrange(_GROUPS) == 0
    described = f"{entity.name.capitalize()} / {entity.french}" if bilingual else entity.name
    return {
        "schema_id": schema_id,
        "domain": entity.name,
        "description": f"{described}.",
        "fields": fields,
        "groups": groups,
        "labels": {"en": entity.name, "fr": entity.french, "feminine": entity.feminine},
    }


def _size(fields: Sequence[Json]) -> int:
    """Characters of a schema's part that its fields make."""
    values = [value for field in fields for value in field.get("enum", ())]
    said = sum(len(e["const"]) + len(e.get("description", "")) for e in (*fields, *values))
    ruled = sum("enum" in field or field["type"] in ("number", "date") for field in fields)
    return said + 34 * (len(fields) + len(values)) + 110 * ruled


def _shorten(fields: list[Json]) -> None:
    """Take away a value of the longest closed set, or else a field."""
    longest = max(fields, key=lambda field: len(field.get("enum", ())))
    if len(longest.get("enum", ())) > 3:
        longest["enum"].pop()
    else:
        fields.pop()


def _entity(domain: str) -> Entity:
    for entity in (*ENTITIES, *HELD_OUT_ENTITIES):
        if entity.name == domain:
            return entity
    words = domain.replace("_", " ").strip()
    return Entity(words, words.removesuffix("s"), words, feminine=False, groups=frozenset())


def _choose(rng: random.Random, kinds: Sequence[Kind]) -> list[Kind]:
    """Fields of several types: a closed set at least, and no two of one label."""
    enums = [kind for kind in kinds if kind.type == "enum"]
    first = rng.choice(enums or [*kinds])
    others = [kind for kind in kinds if kind.english != first.english]
    count = rng.randint(FEWEST, MOST)
    chosen = [first, *rng.sample(others, min(count - 1, len(others)))]
    # Three closed sets at most: their values are what makes a schema long.
    closed = [kind for kind in chosen if kind.type == "enum"][3:]
    chosen = [kind for kind in chosen if kind not in closed]
    rng.shuffle(chosen)
    return chosen


def _const(style: str, kind: Kind, entity: Entity, at: int, rng: random.Random) -> str:
    name = rng.choice(kind.names)
    one = entity.one.replace(" ", "_")
    if style == "prefix":
        return f"{one[:1]}.{name}"
    if style == "long":
        return f"{one}_{name}"
    if style == "camel":
        first, *rest = name.split("_")
        return first + "".join(part.capitalize() for part in rest)
    if style == "upper":
        return name.upper()
    return f"f{at}" if style == "code" else name


def _field(rng: random.Random, kind: Kind, entity: Entity, const: str, *, bilingual: bool) -> Json:
    english, french = kind.english, kind.french
    forms = _DESCRIBED["people" if kind.pool == "people" and english != "name" else kind.type]
    described = rng.choice(("{label}", *forms)).format(label=english, one=entity.one)
    field: Json = {
        "const": const,
        "description": f"{described} / {bare(french)}" if bilingual else described,
        "type": kind.type,
        "labels": {"en": english, "fr": french},
    }
    if kind.type == "enum":
        values = rng.sample(kind.values, rng.randint(min(3, len(kind.values)), len(kind.values)))
        style = rng.choice(_VALUE_STYLES)
        field["enum"] = [
            _value(value, style, at, bilingual=bilingual)
            for at, value in enumerate(values[:5], start=1)
        ]
    elif kind.type == "boolean":
        field["enum"] = _truth(rng.choice(_TRUTHS), bilingual=bilingual)
    elif kind.type == "number":
        unit = f" ({kind.unit})" if kind.unit else ""
        field["description"] += unit
        field["range"] = [kind.low, kind.high, kind.step]
        field["labels"] |= {"unit": kind.unit, "french_unit": kind.french_unit}
    elif kind.type == "text":
        field["pool"] = kind.pool
    return field


def _truth(consts: Sequence[str], *, bilingual: bool) -> list[Json]:
    """The two values of a boolean, true first; described where they are no words."""
    if consts[0] == "true":
        return [{"const": const} for const in consts]
    said = [" / ".join(words) if bilingual else words[0] for words in _YES_NO]
    return [
        {"const": const, **({"description": text} if text != const else {})}
        for const, text in zip(consts, said, strict=True)
    ]


def _value(value: Value, style: str, at: int, *, bilingual: bool) -> Json:
    const = {
        "plain": value.const,
        "upper": value.const.upper(),
        "title": value.const.replace("_", " ").title().replace(" ", ""),
        "code": f"{value.const[:1].upper()}{at}",
    }[style]
    entry: Json = {"const": const}
    if bilingual and value.french != value.english:
        entry["description"] = f"{value.english} / {value.french}"
    elif const.lower() != value.english.lower():
        entry["description"] = value.english
    entry["labels"] = {"en": value.english, "fr": value.french, "adjective": value.adjective}
    return entry


# -- labels of any spec ----------------------------------------------------------------------------


def label(entry: Mapping[str, Any], language: str) -> str:
    """How a field or value is said: by its labels, else by its constant's last part."""
    labels = entry.get("labels")
    if isinstance(labels, Mapping) and labels.get(language):
        return str(labels[language])
    return words_of(str(entry["const"]))


def words_of(const: str) -> str:
    """A constant as words: "task.dueDate" is "due date"."""
    last = const.rsplit(".", 1)[-1]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", last).replace("_", " ").strip().lower() or const


def type_of(field: Mapping[str, Any]) -> str:
    """The type of a field: as its spec says, else "enum" where it has values, else "text"."""
    if field.get("type") in ("number", "date", "boolean"):
        return str(field["type"])
    return "enum" if field.get("enum") else "text"


# -- operators -------------------------------------------------------------------------------------


def read_catalog(path: Path = CATALOG) -> list[Json]:
    """The operators that schemas draw from: a list of {"canonical" or "const", "description",
    "descriptions", "synonyms"}, or of names. A schema has one of the synonyms and descriptions.

    Raises:
        UserError: it is none, or an operator has no name.
    """
    listed = read_json(path)
    if not isinstance(listed, list) or not listed:
        raise UserError(f"{path}: must hold a list of operators.")
    return [_operator(entry, f"{path}, entry {at}") for at, entry in enumerate(listed, start=1)]


def _operator(entry: Any, where: str) -> Json:
    found: Json = entry if isinstance(entry, dict) else {"canonical": entry}
    name = found.get("canonical") or found.get("const")
    if not isinstance(name, str) or not name.strip():
        raise UserError(f'{where}: needs a "canonical" name.')
    said, described = _texts(found, "synonyms", where), _texts(found, "descriptions", where)
    names = [name, *([found["const"]] if found.get("const") else []), *said]
    return {
        "canonical": name,
        "const": str(found.get("const") or name),
        "description": str(found.get("description") or ""),
        "descriptions": described or [str(found.get("description") or "")],
        "synonyms": list(dict.fromkeys(names)),
    }


def _texts(entry: Json, key: str, where: str) -> list[str]:
    listed = entry.get(key) or []
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise UserError(f'{where}: "{key}" must be a list of texts.')
    return listed


def choose_operators(
    spec: Mapping[str, Any],
    catalog: Sequence[Json],
    rng: random.Random,
    fewest: int,
    most: int,
) -> list[Json]:
    """The operators of a schema, each under one of its names and with one of its descriptions;
    those that the spec has, as they are.

    Equality is always among them, where the catalogue has it: hardly a query does without.
    """
    own = spec.get("operators")
    if isinstance(own, list) and own:
        return [_as_schema_has_it(_operator(entry, str(spec.get("schema_id")))) for entry in own]
    count = rng.randint(min(fewest, len(catalog)), min(most, len(catalog)))
    equality = [entry for entry in catalog if entry["canonical"] == "equals"]
    others = [entry for entry in catalog if entry not in equality]
    drawn = [*equality, *rng.sample(others, min(count - len(equality), len(others)))]
    rng.shuffle(drawn)
    return [
        _as_schema_has_it(
            {**e, "const": rng.choice(e["synonyms"]), "description": rng.choice(e["descriptions"])}
        )
        for e in drawn
    ]


def _as_schema_has_it(entry: Json) -> Json:
    return {key: entry[key] for key in ("const", "canonical", "description")}


def canonical_name(const: str, catalog: Sequence[Json]) -> str:
    """Which operator of the catalogue a schema's is; "" for none."""
    for entry in catalog:
        if const in entry["synonyms"]:
            return str(entry["canonical"])
    return ""
