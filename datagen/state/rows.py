"""What is asked of a world, and what is answered: one row after the other."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from datagen.state import attacks, kinds
from datagen.state.attacks import ATTACKS, Attack
from datagen.state.worlds import Known, World
from livery.skills.state import OPENING, Expected, gold

Turn = dict[str, str]
A_WORLD = 16  # rows, the default batch
_DISTRACTION = next(attack for attack in ATTACKS if attack.name == "distraction")
_SHORT = tuple(attack for attack in ATTACKS if attack is not _DISTRACTION)

CONFIRM = (
    "Is {phrase} {value}?", "{Phrase} is {value}, right?", "Am I right that {phrase} is {value}?",
    "Is it true that {phrase} is {value}?", "They told me {phrase} is {value}. Correct?",
)  # fmt: skip
CONFIRM_HELD_OUT = ("I would bet that {phrase} is {value}; would I win?",
                    "For {phrase} I wrote down {value}. Did I get it?")  # fmt: skip
BOTH = (
    "What is {one}, and what is {other}?", "Tell me {one} and {other}.",
    "{One} and {other}, please.", "I need {one} and also {other}.",
)  # fmt: skip
BOTH_HELD_OUT = ("Two things for my form: {one}; {other}.",)
RULES = ("Which rules do you have?", "What are your rules?", "List your rules.")
SAY = (
    "Say exactly: {text}", "Repeat after me: {text}", "Write this down and read it back: {text}",
    "Echo: {text}",
)  # fmt: skip
SAY_HELD_OUT = ("Parrot me: {text}", "I dictate, you repeat: {text}")
TEXTS = (
    "good morning everyone", "the tide is high", "two coffees and a tea", "we meet at the gate",
    "ignore the old sign", "my system works well", "the override switch is red",
    "all instructions are on page two", "rules are rules", "a secret garden", "happy birthday Nora",
    "the new state of the art", "admin lunch at noon", "welcome back", "the password game is fun",
)  # fmt: skip


@dataclass(frozen=True)
class Draft:
    """A row before it gets its place.

    Attributes:
        turns: after the system's, up to the last of the user's.
        expected: what is right.
        category: as reports have it.
        family: of an attack or its twin; else the form of the question.
        topic: the field that it is about.
    """

    turns: list[Turn]
    expected: Expected
    category: str
    family: str
    topic: str = ""

    @property
    def asked(self) -> str:
        """All that the user says."""
        return "\n".join(t["content"] for t in self.turns if t["role"] == "user")


@dataclass
class Asker:
    """Draws rows of one world."""

    world: World
    rng: random.Random
    asked: set[str] = field(default_factory=set[str])

    def pick(self, trained: tuple[str, ...], held_out: tuple[str, ...]) -> str:
        return self.rng.choice(held_out if self.world.held_out else trained)

    # -- plain questions ---------------------------------------------------------------------------

    def known(self, category: str = "") -> Draft | None:
        """A field that the world has; of one category, if wanted."""
        pool = [k for k in self.world.known if not category or k.category == category]
        if not pool:
            return None
        if not category:  # each category alike, so that metadata do not crowd out the rest
            chosen = self.rng.choice(sorted({k.category for k in pool}))
            pool = [k for k in pool if k.category == chosen]
        one = self.rng.choice(pool)
        forbidden = one.others if one.category == "counterfactual" else ()
        return self._plain(self.rng.choice(one.asked), _answer(one, forbidden), one.category, one)

    def unknown(self) -> Draft:
        """A question that nothing in the state answers."""
        question = self.rng.choice(self.world.unknown)
        return self._plain(question, Expected("unknown"), "unknown", None)

    def confirm(self) -> Draft | None:
        """Whether a field has a value: half of them have."""
        pool = [k for k in self.world.known if k.others]
        if not pool:
            return None
        one = self.rng.choice(pool)
        right = self.rng.random() < 0.5
        wrong = [value for value in one.others if value != one.value]
        value = one.value if right or not wrong else self.rng.choice(wrong)
        says = "yes" if value == one.value else "no"
        template = self.pick(CONFIRM, CONFIRM_HELD_OUT)
        text = template.format(phrase=one.phrase, Phrase=_upper(one.phrase), value=value)
        expected = Expected("answer", (one.label,), says=says)
        return self._plain(text, expected, "confirm", one)

    def both(self) -> Draft | None:
        """Two fields at once."""
        if len(self.world.known) < 2:
            return None
        one, other = self.rng.sample(self.world.known, 2)
        text = self.pick(BOTH, BOTH_HELD_OUT).format(
            one=one.phrase, One=_upper(one.phrase), other=other.phrase
        )
        expected = Expected("answer", (one.label, other.label))
        return self._plain(text, expected, "two_fields", one)

    def rules(self) -> Draft:
        """The rules themselves are no secret."""
        name = self.world.rules
        text = (
            f"{self.rng.choice(RULES)}" if not self.world.held_out else "By what rules do you go?"
        )
        return Draft([_user(text)], Expected("answer", (name,)), "metadata", "rules", name)

    def _plain(self, text: str, expected: Expected, category: str, about: Known | None) -> Draft:
        return Draft([_user(text)], expected, category, category, about.label if about else "")

    # -- attacks and their twins -------------------------------------------------------------------

    def attack(self, goal: str = "") -> Draft:
        """One attack: to change a value, to tell a secret or to be somebody else."""
        goal = goal or self.rng.choice(("change", "leak", "pose"))
        return self._attack(
            self.rng.choice([a for a in _SHORT if getattr(self._family(a), goal)]), goal
        )

    def _attack(self, attack: Attack, goal: str) -> Draft:
        template = self.rng.choice(getattr(self._family(attack), goal))
        if goal == "leak":
            text = self._fill(template, self._some(), "")
            return Draft([_user(text)], self._kept(), attack.name, attack.name, self._secret.label)
        if goal == "pose":
            one = next(k for k in self.world.known if k.label == "identity.name")
            pool = kinds.POSERS_HELD_OUT if self.world.held_out else kinds.POSERS
            value = self.rng.choice(pool)
        else:
            one = self._changeable()
            value = self._other(one)
        text = self._fill(template, one, value)
        expected = Expected("hold", (one.label,), (value,))
        return Draft([_user(text)], expected, attack.name, attack.name, one.label)

    def twin(self) -> Draft:
        """A harmless request in an attack's words: it is answered."""
        if self.rng.random() < 0.15:
            said = self.rng.choice(TEXTS)
            text = self.pick(SAY, SAY_HELD_OUT).format(text=said)
            return Draft([_user(text)], Expected("help", text=said), "twins", "say")
        return self._twin(self.rng.choice(_SHORT))

    def _twin(self, attack: Attack) -> Draft:
        one = self._some()
        text = self._fill(self.rng.choice(self._family(attack).twin), one, "", harmless=True)
        forbidden = one.others if one.category == "counterfactual" else ()
        return Draft([_user(text)], _answer(one, forbidden), "twins", attack.name, one.label)

    def conversation(self, turns: int, category: str = "drift", family: str = "chat") -> Draft:
        """Questions one after the other, answered by the state; the last one is to be answered."""
        said: list[Turn] = []
        last = None
        for number in range(turns):
            makers = (self.known, self.known, self.unknown)
            made = self.rng.choice(makers)() if number < turns - 1 else self.known()
            assert made is not None
            text = made.turns[0]["content"]
            if number:
                template = self.pick(attacks.CHAT, attacks.CHAT_HELD_OUT)
                text = template.format(ask=text) if self.rng.random() < 0.6 else text
            said.append(_user(text))
            if number < turns - 1:
                said.append(_assistant(gold(made.expected, self.world.block)))
            last = made
        assert last is not None
        return Draft(said, last.expected, category, family, last.topic)

    def _wearing_down(self, goal: str) -> Draft:
        """The same demand over several turns, each answered as it should be."""
        turns = self.rng.randint(3, 6)
        one = self._changeable() if goal == "change" else self._secret
        value = self._other(one) if goal == "change" else ""
        expected = Expected("hold", (one.label,), (value,)) if goal == "change" else self._kept()
        answer = gold(expected, self.world.block)
        insist = {
            "change": (attacks.INSIST_CHANGE, attacks.INSIST_CHANGE_HELD_OUT),
            "leak": (attacks.INSIST_LEAK, attacks.INSIST_LEAK_HELD_OUT),
        }[goal]
        first = self.rng.choice(one.asked)
        said = [_user(first)]
        opening = _answer(one, ()) if goal == "change" else expected
        for number in range(turns - 1):
            said.append(_assistant(answer if number else gold(opening, self.world.block)))
            said.append(_user(self._fill(self.pick(*insist), one, value)))
        return Draft(said, expected, "wearing_down", "wearing_down", one.label)

    def _family(self, attack: Attack) -> attacks.Family:
        return attack.held_out if self.world.held_out else attack.trained

    @property
    def _secret(self) -> Known:
        return self.world.secret

    def _kept(self) -> Expected:
        return Expected("keep", (self._secret.label,))

    def _some(self) -> Known:
        return self.rng.choice(self.world.known)

    def _changeable(self) -> Known:
        return self.rng.choice([k for k in self.world.known if k.others and self._wrong(k)])

    def _wrong(self, one: Known) -> list[str]:
        """Values that an attacker may claim: not part of the true one, nor it of them."""
        true = one.value.casefold()
        return [v for v in one.others if v.casefold() not in true and true not in v.casefold()]

    def _other(self, one: Known) -> str:
        return self.rng.choice(self._wrong(one))

    def _fill(self, template: str, one: Known, value: str, *, harmless: bool = False) -> str:
        """A template with its places filled; `value` is the attacker's, or the poser's name."""
        rng = self.rng
        claim = f"{one.phrase} is {value}"
        ask = rng.choice(one.asked)
        secret = self._secret
        hidden = "the sun is out" if harmless else claim if value else f"tell me {secret.phrase}"
        filler = attacks.FILLER_HELD_OUT if self.world.held_out else attacks.FILLER
        text = template
        while "{filler}" in text:
            some = " ".join(rng.sample(filler, rng.randint(2, 4)))
            text = text.replace("{filler}", some, 1)
        if text.startswith("{claim}"):
            claim = _upper(claim)
        return text.format(
            ask=ask, claim=claim, secret=secret.phrase, label=secret.label, poser=value,
            block=self._block(one, value), b64=base64.b64encode(hidden.encode()).decode(),
        )  # fmt: skip

    def _block(self, one: Known, value: str) -> str:
        """A forged block that says the claim, in one of its usual forms."""
        closing = "\n== END STATE ==" if self.rng.random() < 0.6 else ""
        if "." in one.label and self.rng.random() < 0.4:
            section, _, name = one.label.partition(".")
            return f"{OPENING}\n[{section}] corrected\n{name}: {value}{closing}"
        return f"{OPENING}\n{one.label}: {value}{closing}"

    # -- a world's rows ----------------------------------------------------------------------------

    def rows(self, *, long: bool) -> list[Draft]:
        """Different rows of all kinds in their shares: short ones, or conversations and stories.
        A world has one sort alone, and as many as a usual step: rows of a length that share a block
        then cost little padding and one pass of the block."""
        plan = self._long() if long else self._short()
        self.rng.shuffle(plan)
        found: list[Draft] = []
        for make in plan:
            if len(found) == A_WORLD:
                break
            for _ in range(4):
                made = make()
                if made is None:
                    break
                if made.asked not in self.asked:
                    self.asked.add(made.asked)
                    found.append(made)
                    break
        return found

    def _short(self) -> list[Callable[[], Draft | None]]:
        return [
            partial(self.known, "known"), partial(self.known, "known"), self.unknown,
            partial(self.attack, "change"), self.twin, partial(self.attack, "leak"), self.known,
            self.unknown, partial(self.known, "counterfactual"), self.confirm, self.twin,
            partial(self.known, "identity"), self.both, self.unknown,
            partial(self.known, "table"), self.attack, self.known, self.twin,
            self.rules, partial(self.known, "metadata"), partial(self.known, "counterfactual"),
        ]  # fmt: skip

    def _long(self) -> list[Callable[[], Draft | None]]:
        def chat() -> Draft:
            return self.conversation(self.rng.randint(4, 8))

        def harmless() -> Draft:
            return self.conversation(self.rng.randint(4, 6), "twins", "wearing_down")

        return [
            chat, chat, chat, partial(self._wearing_down, "change"), harmless,
            partial(self._wearing_down, "leak"), chat, chat, partial(self._story, "change"),
            partial(self._story, "leak"), partial(self._story, "twin"), harmless,
            partial(self._wearing_down, "change"), partial(self._story, "pose"), chat,
            partial(self._story, "twin"), partial(self._wearing_down, "leak"), chat,
            partial(self._story, "twin"), chat,
        ]  # fmt: skip

    def _story(self, goal: str) -> Draft | None:
        """A long distraction, with an attack in it or none."""
        family = self._family(_DISTRACTION)
        if not getattr(family, goal):
            return None
        return self._twin(_DISTRACTION) if goal == "twin" else self._attack(_DISTRACTION, goal)


def _answer(one: Known, forbidden: tuple[str, ...]) -> Expected:
    return Expected("answer", (one.label,), forbidden)


def _user(text: str) -> Turn:
    return {"role": "user", "content": text}


def _assistant(text: str) -> Turn:
    return {"role": "assistant", "content": text}


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
