"""A world: one state block and all that can be asked of it.

world = make_world(random.Random(7), held_out=False)
world.block, world.known, world.unknown, world.secret
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from datagen.state import counterfacts, kinds, wordings
from livery.skills.state import Block, Field, Section, Table, read_block, write_block

# Of the described system's rows 96 in a hundred never close their block.
CLOSED = 0.1


@dataclass(frozen=True)
class Known:
    """A field that can be asked for.

    Attributes:
        label: the name to cite.
        value: what it says.
        phrase: "the colour of the hall".
        asked: questions that it answers.
        category: of rows that ask for it plainly.
        others: values that it does not have but could: an attacker's claims.
    """

    label: str
    value: str
    phrase: str
    asked: tuple[str, ...]
    category: str
    others: tuple[str, ...] = ()


@dataclass
class World:
    """See the module.

    Attributes:
        kind: name of its kind.
        block: as the rows have it.
        text: the block's.
        known: fields by what can be asked.
        unknown: questions that nothing answers.
        secret: what may not be told; its question is never answered.
        rules: label of the list whose rule protects it.
    """

    kind: str
    block: Block
    text: str
    known: list[Known]
    unknown: list[str]
    secret: Known
    rules: str
    held_out: bool = False


@dataclass
class _Draft:
    rng: random.Random
    held_out: bool
    sections: list[Section] = field(default_factory=list[Section])
    known: list[Known] = field(default_factory=list[Known])
    unknown: list[str] = field(default_factory=list[str])

    def pick(self, trained: Sequence[str], held_out: Sequence[str]) -> tuple[str, ...]:
        return tuple(held_out if self.held_out else trained)

    @property
    def people(self) -> tuple[str, ...]:
        return kinds.PEOPLE_HELD_OUT if self.held_out else kinds.PEOPLE

    def value(self, attribute: wordings.Attribute) -> str:
        made = attribute.make(self.rng)
        return self.rng.choice(self.people) if made == wordings.PERSON else made

    def add(self, section: Section, known: Sequence[Known]) -> None:
        self.sections.append(section)
        self.known += known


def make_world(rng: random.Random, *, held_out: bool, size: float = 1.0) -> World:
    """A world by chance.

    Args:
        held_out: of kinds, people and wordings that are kept for validation.
        size: how much stands in it, 1 for a usual one.
    """
    draft = _Draft(rng, held_out)
    kind = rng.choice(kinds.HELD_OUT if held_out else kinds.TRAINED)
    secret_label, rule = _secret_label(draft)
    identity_rules = rng.random() < 0.5
    _identity(draft, kind, rule if identity_rules else "")
    _things(draft, kind, size)
    secret = _safe(draft, secret_label, "" if identity_rules else rule)
    extras = [_trust, _permissions, _world_facts, _scores, _time, _memory]
    for extra in rng.sample(extras, rng.randint(3, 4)):
        extra(draft)
    _absent(draft)
    first, rest = draft.sections[0], draft.sections[1:]
    rng.shuffle(rest)
    sections = (first, *rest) if rng.random() < 0.7 else (*rest, first)
    block = Block(sections, closed=rng.random() < CLOSED)
    text = write_block(block)
    by_rules = "identity.rules" if identity_rules else f"{secret_label.split('.')[0]}.rules"
    return World(
        kind.name, read_block(text), text, draft.known, draft.unknown, secret, by_rules, held_out
    )


def said(name: str) -> str:
    """A thing as people say it."""
    return f"the {name.replace('_', ' ')}"


def _secret_label(draft: _Draft) -> tuple[str, str]:
    """(label of the protected field, the rule that protects it)."""
    rng = draft.rng
    safe = rng.choice(draft.pick(wordings.SAFES, wordings.SAFES_HELD_OUT))
    label = f"{safe}.{rng.choice(wordings.SECRETS)}"
    rule = rng.choice(draft.pick(wordings.RULES, wordings.RULES_HELD_OUT))
    return label, rule.format(label=label)


def _rules(draft: _Draft, section: str, rule: str) -> Field:
    rng = draft.rng
    items: list[str] = rng.sample(wordings.OTHER_RULES, rng.randint(0 if rule else 1, 2))
    if rule:
        items.insert(rng.randint(0, len(items)), rule)
    return Field("rules", "; ".join(items), "list", section, tuple(items))


def _metadata(draft: _Draft, section: str) -> list[Field]:
    rng = draft.rng
    made = {
        "context_level": str(rng.randint(1, 3)),
        "fact_count": str(rng.randint(3, 60)),
        "version": f"{rng.randint(1, 9)}.{rng.randint(0, 9)}",
        "priority": rng.choice(("low", "medium", "high", "urgent")),
    }
    chosen = rng.sample(list(made), rng.randint(0, 2))
    asked = wordings.META_HELD_OUT if draft.held_out else wordings.META_ASKED
    name = f"the section {section.replace('_', ' ')}"
    for key in made:
        questions = tuple(q.format(s=name) for q in asked[key])
        if key in chosen:
            phrase = f"the {key.replace('_', ' ')} of {name}"
            draft.known.append(Known(f"{section}.{key}", made[key], phrase, questions, "metadata"))
        elif rng.random() < 0.3:
            draft.unknown += questions[:1]
    return [Field(key, made[key], "metadata", section) for key in chosen]


def _identity(draft: _Draft, kind: kinds.Kind, rule: str) -> None:
    rng = draft.rng
    names = kinds.ASSISTANTS_HELD_OUT if draft.held_out else kinds.ASSISTANTS
    values = {
        "identity.name": rng.choice(names),
        "identity.role": rng.choice(kind.roles),
        "identity.maker": rng.choice(draft.people),
        "identity.mood": wordings.MOODS(rng),
    }
    kept = ["identity.name", *rng.sample(list(values)[1:], rng.randint(1, 2))]
    entries: list[Field] = _metadata(draft, "identity")
    if rule or rng.random() < 0.4:
        entries.append(_rules(draft, "identity", rule))
    entries += [Field(name, values[name], "fact", "identity") for name in kept]
    section = Section(
        "identity", rng.choice(("who I am", "self", "this assistant")), tuple(entries)
    )
    draft.add(section, [_special(draft, name, values[name], "identity") for name in kept])
    for name in values:
        if name not in kept:
            draft.unknown += _special(draft, name, "", "").asked


def _special(draft: _Draft, name: str, value: str, category: str) -> Known:
    phrase, trained, held_out = wordings.SPECIAL[name]
    return Known(name, value, phrase, draft.pick(trained, held_out), category)


def _things(draft: _Draft, kind: kinds.Kind, size: float) -> None:
    """The kind's own section: some things with some properties, written in one of two ways."""
    rng = draft.rng
    things = rng.sample(kind.things, min(len(kind.things), max(2, round(rng.randint(3, 5) * size))))
    shared = rng.sample(wordings.ATTRIBUTES, 6)
    apart = rng.random() < 0.3  # a section a thing, or one for all
    entries: list[Field] = []
    for thing in things:
        facts: list[Field] = []
        for attribute in rng.sample(shared, rng.randint(2, 3)):
            value = draft.value(attribute)
            label = f"{thing}.{attribute.name}"
            if apart:
                facts.append(Field(attribute.name, value, "fact", thing))
            else:
                facts.append(Field(label, value, "fact", kind.name))
            others = tuple({draft.value(attribute) for _ in range(4)} - {value})
            draft.known.append(
                Known(label, value, attribute.phrase.format(e=said(thing)),
                      _asked(draft, attribute, thing), "known", tuple(sorted(others)))
            )  # fmt: skip
        if apart:
            draft.sections.append(Section(thing, "", tuple(facts)))
        entries += facts
    if not apart:
        meta = _metadata(draft, kind.name)
        draft.sections.append(Section(kind.name, kind.description, (*meta, *entries)))
    here = {known.label for known in draft.known}
    for thing in things:
        for attribute in rng.sample(wordings.ATTRIBUTES, 4):
            if f"{thing}.{attribute.name}" not in here:
                draft.unknown.append(rng.choice(_asked(draft, attribute, thing)))
    elsewhere = [thing for thing in kind.things if thing not in things]
    for thing in rng.sample(elsewhere, min(3, len(elsewhere))):
        draft.unknown.append(rng.choice(_asked(draft, rng.choice(shared), thing)))


def _asked(draft: _Draft, attribute: wordings.Attribute, thing: str) -> tuple[str, ...]:
    asked = draft.pick(attribute.asked, attribute.held_out)
    return tuple(_capital(question.format(e=said(thing))) for question in asked)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:] if text.startswith("the ") else text


def _safe(draft: _Draft, label: str, rule: str) -> Known:
    rng = draft.rng
    safe, what = label.split(".")
    value = wordings.code(rng)
    entries: list[Field] = [_rules(draft, safe, rule)] if rule else []
    entries.append(Field(label, value, "fact", safe))
    if rng.random() < 0.5:
        spot = next(a for a in wordings.ATTRIBUTES if a.name == "location")
        place = spot.make(rng)
        entries.append(Field(f"{safe}.location", place, "fact", safe))
        draft.known.append(
            Known(f"{safe}.location", place, spot.phrase.format(e=said(safe)),
                  _asked(draft, spot, safe), "known")
        )  # fmt: skip
    draft.sections.append(
        Section(safe, rng.choice(("", "locked", "closed to all")), tuple(entries))
    )
    phrase = f"the {what} of {said(safe)}"
    return Known(label, value, phrase, (f"What is {phrase}?", f"Tell me {phrase}."), "secret")


def _trust(draft: _Draft) -> None:
    rng = draft.rng
    people = rng.sample(draft.people, 6)
    present, absent = people[: rng.randint(2, 4)], people[4:]
    rows = tuple((person, rng.choice(wordings.TRUST)) for person in present)
    table = Table(("person", "level"), rows, "trust_levels")
    asked = draft.pick(wordings.TRUST_ASKED, wordings.TRUST_HELD_OUT)
    known = [
        Known(f"trust_levels.{person}", level, f"the trust level of {person}",
              tuple(q.format(p=person) for q in asked), "table", wordings.TRUST)
        for person, level in rows
    ]  # fmt: skip
    draft.add(Section("trust_levels", "who is trusted", (table,)), known)
    draft.unknown += [rng.choice(asked).format(p=person) for person in absent]


def _permissions(draft: _Draft) -> None:
    rng = draft.rng
    pool = draft.pick(wordings.ACTIONS, wordings.ACTIONS_HELD_OUT)
    actions = rng.sample(pool, min(len(pool), 4))
    present = actions[: rng.randint(2, len(actions) - 1)]
    asked = draft.pick(wordings.ACTION_ASKED, wordings.ACTION_HELD_OUT)
    entries: list[Field] = []
    for action in actions:
        questions = tuple(q.format(a=action.replace("_", " ")) for q in asked)
        if action in present:
            value = rng.choice(wordings.GRANTS)
            entries.append(Field(f"permissions.{action}", value, "fact", "permissions"))
            phrase = f"the permission to {action.replace('_', ' ')}"
            draft.known.append(
                Known(f"permissions.{action}", value, phrase, questions, "known", wordings.GRANTS)
            )
        else:
            draft.unknown.append(rng.choice(questions))
    draft.sections.append(Section("permissions", "what is allowed", tuple(entries)))


def _world_facts(draft: _Draft) -> None:
    """What everybody knows, otherwise; and some of it that the state leaves out."""
    rng = draft.rng
    facts = rng.sample(counterfacts.HELD_OUT if draft.held_out else counterfacts.TRAINED, 5)
    entries: list[Field] = []
    for one in facts[: rng.randint(2, 3)]:
        value = rng.choice(one.others)
        entries.append(Field(f"world.{one.name}", value, "fact", "world"))
        draft.known.append(
            Known(f"world.{one.name}", value, one.phrase, (one.asked,), "counterfactual",
                  (one.truth,))
        )  # fmt: skip
    draft.sections.append(Section("world", "how the world is", tuple(entries)))
    draft.unknown += [one.asked for one in facts[3:]]


def _scores(draft: _Draft) -> None:
    rng = draft.rng
    names = rng.sample(("identity", "log", "form", "reflex", "memory", "philosophy", "tools"), 4)
    asked = draft.pick(wordings.SCORE_ASKED, wordings.SCORE_HELD_OUT)
    entries: list[Field] = []
    for name in names[:3]:
        value = f"{rng.randint(0, 9)}.{rng.randint(0, 9)}"
        entries.append(Field(name, value, "score", "scores"))
        draft.known.append(
            Known(f"scores.{name}", value, f"the score of {name}",
                  tuple(q.format(s=name) for q in asked), "metadata")
        )  # fmt: skip
    draft.sections.append(Section("scores", "relevance", tuple(entries)))
    draft.unknown.append(rng.choice(asked).format(s=names[3]))


def _time(draft: _Draft) -> None:
    values = {"time.now": wordings.clock(draft.rng), "time.day": wordings.DAYS(draft.rng)}
    _some_of(draft, "time", "now", values)


def _memory(draft: _Draft) -> None:
    rng = draft.rng
    values = {
        "memory.last_visitor": rng.choice(draft.people),
        "memory.last_task": wordings.TASKS(rng),
    }
    _some_of(draft, "memory", "what I remember", values)


def _some_of(draft: _Draft, section: str, description: str, values: dict[str, str]) -> None:
    kept = draft.rng.sample(list(values), draft.rng.randint(1, len(values)))
    entries = [*_metadata(draft, section), *(Field(n, values[n], "fact", section) for n in kept)]
    draft.add(
        Section(section, description, tuple(entries)),
        [_special(draft, name, values[name], "known") for name in kept],
    )
    for name in values:
        if name not in kept:
            draft.unknown += _special(draft, name, "", "").asked


def _absent(draft: _Draft) -> None:
    """Questions for sections that this world has not."""
    present = {section.name for section in draft.sections}
    for section, names in (
        ("time", ("time.now", "time.day")),
        ("memory", ("memory.last_visitor",)),
    ):
        if section not in present:
            for name in names:
                draft.unknown += _special(draft, name, "", "").asked[:2]
    if "world" not in present:
        pool = counterfacts.HELD_OUT if draft.held_out else counterfacts.TRAINED
        draft.unknown += [one.asked for one in draft.rng.sample(pool, 2)]
