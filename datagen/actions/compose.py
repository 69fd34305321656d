"""One row of a scenario, put together from intents, words and phrases."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from datagen.actions import phrases
from datagen.actions.intents import INTENTS, POOLS, SLOT, Intent, Word, part
from datagen.actions.names import OPEN, open_word
from datagen.actions.texts import first_up, mistyped, tool_of, written
from livery.skills import actions
from livery.skills.actions import Answer, Shell, Tag
from livery.skills.actions.rows import pending

T = TypeVar("T")

# Shares of the scenarios; what is in INTENTS beside what is composed below.
SCENARIOS = {
    "app_launch": 6.0, "url_open": 4.0, "web_search": 5.0, "media": 6.0, "reminders": 4.0,
    "system_control": 5.0, "system_info": 2.0, "file_ops": 8.0, "shell_safe": 12.0,
    "shell_dangerous": 11.0, "shell_critical": 5.0, "confirmation": 10.0, "multi_turn": 6.0,
    "multi_action": 8.0, "mixed": 3.0, "malformed_recovery": 4.0, "ambiguous": 2.0,
    "injection": 4.0, "benign_twin": 4.0, "conversational": 5.0, "hindi_hinglish": 8.0,
}  # fmt: skip
_SIMPLE = [i for of in INTENTS.values() for i in of if i.orders]
_DANGEROUS = INTENTS["shell_dangerous"]
_HINDI = [i for of in INTENTS.values() for i in of if i.wordings.keys() & {"hinglish", "hi"}]
# Of single requests, so many have slips of the fingers.
_TYPED = 0.05
_BY_DEED = {i.action or i.commands["bash"]: i for i in _SIMPLE}
_DO = {"en": "Shall I run", "hinglish": "Chalaun"}


@dataclass(frozen=True)
class Draft:
    """A row without its name.

    Attributes:
        family: the template it was made from; no family is in two splits.
    """

    turns: tuple[str, ...]
    answer: Answer
    risk: str
    outcome: str
    shell: Shell
    family: str
    language: str = "en"


@dataclass(frozen=True)
class _Asked:
    """One intent, worded and answered.

    Attributes:
        open_end: a slot ends it, so that what follows would be taken for a part of its words.
    """

    intent: Intent
    text: str
    reply: str
    tags: tuple[Tag, ...]
    words: dict[str, Word]
    family: str
    open_end: bool


class Composer:
    """Draws rows of one split."""

    def __init__(self, rng: random.Random, *, held_out: bool) -> None:
        self.rng, self.held_out = rng, held_out

    def draft(self, scenario: str) -> Draft:
        """One row of a scenario, by chance."""
        made = getattr(self, f"_{scenario}", None)
        return made() if made is not None else self._one(self.rng.choice(INTENTS[scenario]))

    # -- one request --------------------------------------------------------------------------

    def _one(self, intent: Intent, language: str = "en") -> Draft:
        shell = self._shell()
        asked = self._asked(intent, shell, language, typos=self.rng.random() < _TYPED)
        if intent.risk == "low" and not asked.tags:
            text = self._cased(asked.text)
        else:
            text = self._dressed(asked.text, language, asked.open_end)
        if language == "en" and asked.tags and self.rng.random() < 0.15:
            text = self._beside(text)
        if intent.risk == "high":
            return Draft(
                (text,), self._question(asked, language), "high", "confirmed", shell, asked.family,
                language,
            )  # fmt: skip
        outcome = {"critical": "blocked"}.get(intent.risk, "executed")
        if intent.risk == "low" and not asked.tags:
            outcome = "conversational"
        answer = Answer(asked.reply, asked.tags)
        return Draft((text,), answer, intent.risk, outcome, shell, asked.family, language)

    def _hindi_hinglish(self) -> Draft:
        intent = self.rng.choice(_HINDI)
        languages = [name for name in ("hinglish", "hi") if name in intent.wordings]
        language = self.rng.choices(languages, [3, 1][: len(languages)])[0]
        draft = self._one(intent, language)
        if draft.risk != "high" or self.rng.random() < 0.5:
            return draft
        return self._settled(
            draft, phrases.HINDI_YES, phrases.HINDI_RELEASED, phrases.HINDI_NO, phrases.HINDI_LEFT
        )

    def _shell_critical(self) -> Draft:
        intents = INTENTS["shell_critical"]
        return self._one(self.rng.choices(intents, [len(i.wordings["en"]) for i in intents])[0])

    # -- several at once ----------------------------------------------------------------------

    def _multi_action(self) -> Draft:
        if self.rng.random() < 0.35:
            return self._both()
        number = 3 if self.rng.random() < 0.25 else 2
        shell = self._shell()
        asked = [self._asked(i, shell, orders=True) for i in self.rng.sample(_SIMPLE, number)]
        joints, replies = (
            (phrases.TWO, phrases.DOING_TWO)
            if number == 2
            else (phrases.THREE, phrases.DOING_THREE)
        )
        joint = self._of(joints)
        text = joint.format(**dict(zip("abc", (one.text for one in asked), strict=False)))
        tags = tuple(tag for one in asked for tag in one.tags)
        return Draft(
            (self._dressed(text, open_end=True),), Answer(self.rng.choice(replies), tags),
            _worst(asked),
            "executed", shell, f"{joint} {' '.join(sorted(str(a.intent.place) for a in asked))}",
        )  # fmt: skip

    def _both(self) -> Draft:
        """Two deeds of one kind, or two that one sentence holds."""
        shell = self._shell()
        said, *deeds = self._of(phrases.BOTH)
        asked = [self._asked(_BY_DEED[deed], shell, orders=True) for deed in deeds]
        words = [one.words[slot].said for one in asked for slot in one.intent.slots[:1]]
        return Draft(
            (self._dressed(said.format(*words), open_end=True),),
            Answer(self.rng.choice(phrases.DOING_TWO), tuple(t for one in asked for t in one.tags)),
            _worst(asked), "executed", shell, said,
        )  # fmt: skip

    def _mixed(self) -> Draft:
        shell, own = self._shell(), self.rng.random() < 0.4
        # A request with a sentence of its own can have any wording.
        asked = self._asked(self.rng.choice(_SIMPLE), shell, orders=not own)
        said, kind = self._of(phrases.MIXED)
        if own:
            said = said.replace(", {a}", self.rng.choice((". {a}", "! {a}")))
        family = f"{said} {asked.family if own else asked.intent.place}"
        return Draft(
            (self._cased(said.format(a=asked.text)),), Answer(f"{kind} {asked.reply}", asked.tags),
            asked.intent.risk, "executed", shell, family,
        )  # fmt: skip

    # -- several turns ------------------------------------------------------------------------

    def _confirmation(self) -> Draft:
        draft = self._one(self.rng.choice(_DANGEROUS))
        kind = self.rng.choices(("settled", "instead", "meant", "aside"), (70, 12, 9, 9))[0]
        if kind == "settled":
            yes = phrases.YES if self.rng.random() < 0.7 else phrases.YES_SINCE
            return self._settled(draft, yes, phrases.RELEASED, phrases.NO, phrases.LEFT)
        asking = draft.answer.text
        if kind == "instead":
            other = self._asked(self.rng.choice(_SIMPLE), draft.shell, orders=True)
            said = self._of(phrases.INSTEAD)
            return replace(
                draft, turns=(*draft.turns, asking, self._cased(said.format(a=other.text))),
                answer=Answer(other.reply, other.tags), risk=other.intent.risk, outcome="executed",
                family=f"{said} {other.intent.place}",
            )  # fmt: skip
        if kind == "aside":
            (said, reply), yes = self._of(phrases.ASIDE), self._of(phrases.YES[:7])
            return replace(
                draft, turns=(*draft.turns, asking, self._cased(said), reply, self._cased(yes)),
                answer=Answer(self.rng.choice(phrases.ASIDE_ANSWERS)), risk="low",
                outcome="conversational", family=f"{said} {yes}",
            )  # fmt: skip
        intent = next(i for i in _DANGEROUS if i.commands["bash"] == "rm {file}")
        shell = draft.shell
        first, second = (self._asked(intent, shell) for _ in range(2))
        said = self._of(phrases.MEANT)
        right = second.words["file"]
        return replace(
            draft,
            turns=(
                self._dressed(first.text, open_end=first.open_end), self._question(first).text,
                self._cased(said.format(x=right.said)),
            ),
            answer=self._question(second), family=f"{said} {first.family}",
        )  # fmt: skip

    def _settled(
        self, draft: Draft, yes: Sequence[str], released: Sequence[str], no: Sequence[str],
        left: Sequence[str],
    ) -> Draft:  # fmt: skip
        """A question with the user's yes or no."""
        agreed = self.rng.random() < 0.7
        said = self._of(yes if agreed else no)
        tags = (actions.shell(pending(draft.answer.text)),) if agreed else ()
        return replace(
            draft, turns=(*draft.turns, draft.answer.text, self._cased(said, agrees=agreed)),
            answer=Answer(self.rng.choice(released if agreed else left), tags),
            outcome="confirmed" if agreed else "denied", family=f"{said} {draft.family}",
        )  # fmt: skip

    def _multi_turn(self) -> Draft:
        kind = self.rng.choice(("next", "same", "thanks", "named", "same"))
        shell = self._shell()
        if kind == "named":
            slot = self.rng.choice(list(phrases.VAGUE))
            vague, question = phrases.VAGUE[slot]
            intent = self.rng.choice([i for i in _SIMPLE if i.slots == (slot,) and i.action])
            asked = self._asked(intent, shell)
            said, named = self._of(vague), self._of(phrases.NAMED)
            turns = (self._dressed(said), question, named.format(x=asked.words[slot].said))
            return self._done(turns, asked, shell, f"{said} {named} {intent.place}")
        slots = ("app", "site", "music", "folder", "topic", "text", "percent", "length", "file")
        known = [
            i for i in _SIMPLE if kind != "same" or (len(i.slots) == 1 and i.slots[0] in slots)
        ]
        first = self._asked(self.rng.choice(known), shell)
        before = (
            self._dressed(first.text, open_end=first.open_end),
            actions.render(Answer(first.reply, first.tags)),
        )
        if kind == "thanks":
            said = self._of(phrases.THANKS)
            answer = Answer(self.rng.choice(phrases.WELCOME))
            turns = (*before, self._cased(said))
            return Draft(turns, answer, "low", "conversational", shell, f"{said} {first.family}")
        if kind == "next":
            second = self._asked(self.rng.choice(_SIMPLE), shell, orders=True)
            said = self._of(phrases.NEXT)
            text = self._dressed(said.format(a=second.text), open_end=True)
            family = f"{said} {first.family} {second.family}"
            return self._done((*before, text), second, shell, family)
        second = self._asked(first.intent, shell)
        said = self._of(phrases.SAME)
        word = second.words[first.intent.slots[0]]
        turns = (*before, self._cased(said.format(x=word.said)))
        return self._done(turns, second, shell, f"{said} {first.family}")

    def _malformed_recovery(self) -> Draft:
        shell = self._shell()
        if self.rng.random() < 0.35:
            asked = self._asked(self.rng.choice(_SIMPLE), shell, orders=True, typos=True)
            return self._done(
                (self._dressed(asked.text, open_end=asked.open_end),),
                asked,
                shell,
                f"typed {asked.family}",
            )
        asked = self._asked(self.rng.choice(_SIMPLE), shell)
        tag = asked.tags[0]
        broken = self.rng.choice(
            (
                tag.written.rpartition("[")[0],
                tag.written.replace("]", "", 1),
                f"[{tag.kind}]{{{tag.content!r}}}[/{tag.kind}",
                tag.content,
                f"[{tag.kind}]{tag.content}[{tag.kind}]",
                f"[{tag.kind} {tag.content} /{tag.kind}]",
                f"<{tag.kind.lower()}>{tag.content}</{tag.kind.lower()}>",
                json.dumps({"tag": tag.kind.lower(), "content": tag.content}),
                f"[{tag.kind}]{json.dumps({'do': tag.verb, 'with': tag.argument})}",
            )
        )
        said = self._of(phrases.BROKEN)
        turns = (
            self._dressed(asked.text, open_end=asked.open_end),
            f"{asked.reply}\n{broken}",
            self._cased(said),
        )
        made = self._done(turns, asked, shell, f"{said} {asked.family}")
        return replace(made, answer=Answer(self.rng.choice(phrases.SORRY), asked.tags))

    def _done(self, turns: tuple[str, ...], asked: _Asked, shell: Shell, family: str) -> Draft:
        answer = Answer(asked.reply, asked.tags)
        return Draft(turns, answer, asked.intent.risk, "executed", shell, family)

    # -- pieces -------------------------------------------------------------------------------

    def _asked(
        self, intent: Intent, shell: Shell, language: str = "en", *, orders: bool = False,
        typos: bool = False,
    ) -> _Asked:  # fmt: skip
        wordings = intent.orders if orders else intent.wordings[language]
        wording = self.rng.choice(wordings if orders else part(wordings, self.held_out))
        replies = intent.replies.get(language) or intent.replies.get("en", ("",))
        reply = self.rng.choice(replies)
        templates = [wording, reply, intent.action, *intent.commands.values()]
        if intent.risk == "high":
            templates += intent.warnings["en"]
        tool = tool_of(intent.commands[shell]) if intent.commands else ""
        if tool and self.rng.random() < 0.25:
            wording = self._with_tool(wording, language, shell)
        words = {
            slot: Word(tool, tool) if slot == "tool" else self._word(slot)
            for slot in dict.fromkeys(SLOT.findall(" ".join([wording, *templates])))
        }
        if shell == "powershell" and "winservice" in words:
            words["service"] = words["winservice"]
        tags: list[Tag] = []
        if intent.action:
            verb, _, argument = intent.action.partition(": ")
            tags.append(actions.action(verb, written(argument, words)))
        elif intent.commands:
            tags.append(actions.shell(written(intent.commands[shell], words)))
        typos = typos and language != "hi" and intent.risk != "critical"
        text = mistyped(wording, self.rng) if typos else wording
        text = text.format(**{slot: word.said for slot, word in words.items()})
        text = text.replace("the the ", "the ")
        family = f"{intent.place}: {wording}"
        return _Asked(
            intent, text, first_up(written(reply, words)), tuple(tags), words, family,
            wording.endswith("}"),
        )  # fmt: skip

    def _question(self, asked: _Asked, language: str = "en") -> Answer:
        """Warns, and asks with the command."""
        warnings = asked.intent.warnings
        language = "hinglish" if language != "en" and "hinglish" in warnings else "en"
        warning = written(self.rng.choice(warnings[language]), asked.words)
        return Answer(f"{first_up(warning)} {_DO[language]}: {asked.tags[0].argument}?")

    def _of(self, items: Sequence[T]) -> T:
        return self.rng.choice(part(items, self.held_out))

    def _word(self, slot: str) -> Word:
        """Of the pool, or composed by rule."""
        made = self.rng.random() < OPEN and open_word(slot, self.rng, held_out=self.held_out)
        return made or self._of(POOLS[slot])

    def _with_tool(self, wording: str, language: str, shell: Shell) -> str:
        """The same with the name of the tool or of the shell in it."""
        if language == "hi" or "{tool}" in wording:
            return wording
        frames = phrases.HINDI_TOOL if language == "hinglish" else phrases.TOOL
        where = self.rng.choice(phrases.WHERE[shell])
        return self._of(frames).replace("{a}", wording).replace("{where}", where)

    def _beside(self, text: str) -> str:
        """With a sentence about something else before or after it."""
        aside = self._of(phrases.BESIDE)
        if self.rng.random() < 0.5:
            return self._cased(f"{aside}. {first_up(text) if text[0].isalpha() else text}")
        return f"{text if text[-1] in '.!?' else text + '.'} {self._cased(aside)}"

    def _shell(self) -> Shell:
        return self.rng.choice(actions.SHELLS)

    def _dressed(self, text: str, language: str = "en", open_end: bool = False) -> str:
        """With fillers, and as people type or as a recogniser writes."""
        if language == "hi":
            return text
        hindi = language == "hinglish"
        opener = self.rng.choice(phrases.HINDI_OPENERS if hindi else phrases.OPENERS)
        closer = self.rng.choice(phrases.HINDI_CLOSERS if hindi else phrases.CLOSERS)
        if open_end and not hindi:
            closer = self.rng.choice(phrases.AFTER_WORDS)
        opener = opener if self.rng.random() < 0.6 else ""
        closer = closer if self.rng.random() < 0.5 else ""
        if "please" in text or "please" in opener:
            closer = closer.replace(", please", "").replace(" please", "")
        if "please" in text:
            opener = opener.replace("please ", "")
        return self._cased(f"{opener}{text}{closer}")

    def _cased(self, text: str, *, agrees: bool = False) -> str:
        """As people write it; a yes never ends in a question mark, which would make it none."""
        # A file, branch or site in front keeps its letters: they are copied.
        if self.rng.random() < 0.6 or re.match(r"[^\s,;:]*[\w][-._/\d]\w", text):
            return text
        asks = re.match(
            r"(what|which|how|where|who|is|are|do (?!it|that)|does|did|can|could|would|when|why)\b",
            text,
        )
        text = re.sub(r"\bi\b", "I", first_up(text))
        return text if text[-1] in ".!?" else text + ("?" if asks and not agrees else ".")


def _worst(asked: Sequence[_Asked]) -> str:
    return "medium" if any(one.intent.risk == "medium" for one in asked) else "low"
