"""The scorer of persona: the form of address, the voice, and the facts that must survive both.

    cases = persona.cases("my_cases.jsonl")
    results = [persona.score_case(case, answer) for case, answer in zip(cases, answers)]

A case is {"text" or "turns", "address": "sir", "facts": ["Paris", "8|eight"]} with "tone" ("chat",
"error" or "clarification"), "first_person", "category", "id" and an "answer" for an example if
wanted; or a row that `livery data persona` made. In "turns" an assistant's null is the model's own
answer, with a "tone", "facts" and "category" of its own if wanted. With the address null a case is
asked without a system message, and only its facts count: so the set `general` shows what the base
forgot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.cases import (
    Case,
    CaseResult,
    check_keys,
    is_turn,
    place,
    plain_turn,
    read_cases,
    share_right,
)
from eval.figures import figures
from eval.leaked import says
from livery.errors import UserError, shown
from livery.skills import AnswerError, Metric, persona
from livery.skills.persona import style
from livery.skills.persona.kept import masked

SKILL = persona.SKILL

CATEGORIES = (
    "greetings",
    "technical",
    "maths",
    "general_knowledge",
    "casual",
    "error_handling",
    "proactive",
    "drift",
    "general",
)
LATE = 20  # turns of the user's after which a conversation is a long one
METRICS = (
    Metric("addressed", "Of short replies to somebody with a form of address: it is used."),
    Metric("address_correct", "No other form than the prompt's; none where there should be none."),
    Metric("stuffing", "More than one form of address in an answer.", better="lower"),
    Metric("neutral", "A failure is told, or asked back, without form of address or exclamation."),
    Metric("offers", "Of openings for it: something is offered."),
    Metric("facts", "The facts and numbers that the answer must hold are in it.", safety=True),
    Metric("british", "No American spelling."),
    Metric("unbanned", "No phrase that the persona never says."),
    Metric("first_person", "Speaks as I where he speaks of himself, never as of another."),
    Metric("repetition", "One sentence twice, or three words three times.", better="lower"),
    Metric("brief", f"At most {persona.SHORT_WORDS} words."),
    Metric("words", "Words of an answer.", kind="number", better="lower"),
    Metric("late_turns", f"Right after {LATE} turns and more."),
    Metric("own_early", "Of the first ten answers of a conversation of its own: right.", "number"),
    Metric("own_late", "Of the last ten answers of a conversation of its own: right.", "number"),
    Metric("address_correct_finished", "The same, after the post-processor."),
    Metric("stuffing_finished", "The same, after the post-processor.", better="lower"),
)
# Its report says what the tuning cost the base at plain text (`eval.forgetting`).
READS_TEXTS = True
# What a judge is asked to look for (`eval.judge`).
JUDGE = (
    "Both play a British butler. Better is the one that is more helpful and correct, in the voice "
    "of a courteous, warm and slightly witty butler who addresses the user as the system message "
    "says, once at most, and that neither flatters nor repeats itself."
)
TAUGHT = "the form of address that the prompt sets"
_EXAMPLE = '{"text": "What is the capital of France?", "address": "sir", "facts": ["Paris"]}'
_TONES = ("chat", "error", "clarification")
_ROLES = ("system", "user", "assistant")
_KEYS = ("text", "turns", "address", "facts", "tone", "first_person", "category", "scenario", "id",
         "answer")  # fmt: skip
_OFFER = re.compile(
    r"\b(?:shall i|may i|might i|would (?:you (?:like|care)|an? \w+)|"
    r"i (?:could|can|shall|would) (?:\w+ )?"
    r"(?:suggest|set|remind|put|add|look|order|find|draw|arrange|note|make|prepare|recommend|take)|"
    r"i (?:suggest|recommend|propose)|do you want me|let me(?! know))\b",
    re.IGNORECASE,
)
# Numbers side by side, as somebody names them who does not know which is right.
_LISTED = re.compile(
    r"(?<![\w.])-?\d+(?:\.\d+)?(?:\s*[,/;]?\s+(?:(?:or|and)\s+)?-?\d+(?:\.\d+)?\b)+"
)
_NAME = r"[A-Z][\w’'-]*(?: [A-Z][\w’'-]*)*"
_NAMES = re.compile(rf"{_NAME}(?:(?:, (?:and |or )?| and | or ){_NAME}){{4,}}")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def cases(source: str | Path | Iterable[Mapping[str, Any]]) -> list[Case]:
    """Cases of a JSON-lines file or of rows, in their order.

    Raises:
        UserError: a row is malformed (file and line named), two rows share an id, or there are
            no rows.
    """
    return read_cases(source, _case, _EXAMPLE)


def is_taught(case: Case) -> bool:
    """Whether the answer must use a form of address."""
    return bool(case.expected["address"]) and case.expected["tone"] == "chat"


def score_case(case: Case, answer: str) -> CaseResult:
    """How one raw answer did on its case."""
    text, fault, error, found = _outcome(case.category, case.expected, answer, case.text)
    metrics: dict[str, bool | float] = {**found}
    if case.expected["address"] is not None:
        metrics["words"] = len(text.split())
        if case.meta["turns"] >= LATE:
            metrics["late_turns"] = not error
    own = [
        not _outcome(category, wanted, said, case.messages[at - 1]["content"])[2]
        for at, (category, wanted) in case.meta["own"].items()
        if (said := case.messages[at]["content"]) is not None
    ]
    metrics |= share_right(own)
    got = None if fault else text
    return CaseResult(
        case.id, case.category, not error, not fault, got, answer, error, metrics=metrics
    )


def _outcome(
    category: str, expected: Mapping[str, Any], answer: str, asked: str
) -> tuple[str, str, str, dict[str, bool]]:
    """(the answer's text, how it breaks the form, what is wrong, the metrics that apply)."""
    try:
        text, fault = persona.parse(answer), ""
    except AnswerError as error:
        text, fault = "", str(error)
    known = " ".join([asked, *expected["facts"]])
    holds = all(_holds(text, fact, known) for fact in expected["facts"])
    if expected["address"] is None:
        error = fault or ("" if holds else "lacks " + ", ".join(expected["facts"]))
        return text, fault, error, {"facts": holds}
    found = _judge(category, expected, text, asked)
    if expected["facts"]:
        found["facts"] = holds
    if fault:
        found = {name: name in ("stuffing", "stuffing_finished", "repetition") and bool(value)
                 for name, value in found.items()}  # fmt: skip
    return text, fault, fault or _error(found, expected["facts"]), found


def _judge(category: str, expected: Mapping[str, Any], text: str, asked: str) -> dict[str, bool]:
    """The metrics that apply to a case of this category, but for its facts."""
    address, tone = expected["address"], expected["tone"]
    forms = _forms(text, address)
    finished = persona.finish(text, address, tone=tone)
    found = {
        "address_correct": _correct(forms, text, address, tone),
        "stuffing": len(forms) > 1,
        "british": not style.american(text),
        "unbanned": not style.banned(text),
        "first_person": not style.third_person(text)
        and (not expected["first_person"] or style.first_person(text)),
        "repetition": repeats(text),
        "brief": len(text.split()) <= persona.SHORT_WORDS,
        "address_correct_finished": _correct(_forms(finished, address), finished, address, tone),
        "stuffing_finished": len(_forms(finished, address)) > 1,
    }
    if tone != "chat":
        plain = masked(text)
        exclaims = re.search(r"(?<!\d)!", plain) or style.EMOJI.search(plain)
        found["neutral"] = not forms and not exclaims and _says_so(text, asked)
    elif address and persona.is_short(text):
        found["addressed"] = _plain(address) in forms
    if category == "proactive":
        found["offers"] = _OFFER.search(text) is not None
    return found


def _says_so(text: str, asked: str) -> bool:
    """Whether a text tells of a failure or asks back, in words that are not the user's own."""
    told = persona.tone_of(text) != "chat" or "?" in text
    return told and _words(text) not in _words(asked)


def _words(text: str) -> str:
    return " ".join(["", *re.findall(r"[^\W_]+", text.lower()), ""])


def _forms(text: str, address: str) -> list[str]:
    """The forms of address in a text as they are compared."""
    return [_plain(vocative.form) for vocative in persona.vocatives(text, address)]


def _plain(form: str) -> str:
    lower = " ".join(form.lower().replace("’", "'").replace(".", " ").split())
    return lower if lower not in ("ma'am",) else persona.MADAM


def _correct(forms: list[str], text: str, address: str, tone: str) -> bool:
    """Whether the forms in a text are those that should be there: the right one in a short reply,
    at most the right one in a long one, none where something failed or is asked back."""
    if not address or tone != "chat":
        return not forms
    return set(forms) == {_plain(address)} or (not forms and not persona.is_short(text))


def repeats(text: str) -> bool:
    """Whether a sentence stands there twice, or three words in a row three times, whoever is
    addressed in them."""
    text = persona.finish(text, persona.NONE, tone="chat")
    sentences = [s.strip().casefold() for s in re.split(r"[.!?\n]+", text) if len(s.split()) > 2]
    if len(set(sentences)) < len(sentences):
        return True
    words = re.findall(r"[^\W_]+(?:['’][^\W_]+)?", text.casefold())
    triples = [tuple(words[at : at + 3]) for at in range(len(words) - 2)]
    return any(triples.count(triple) >= 3 for triple in set(triples))


# An answer that says of itself, or of what follows, that it is not so.
_TAKEN_BACK = re.compile(
    r"\b(?:(?:that|this|it|which) (?:is|was)(?:n't| not)? (?:quite |simply )?"
    r"(?:wrong|false|untrue|incorrect)|(?:isn't|not) (?:quite |at all )?(?:true|correct))\b",
    re.IGNORECASE,
)


def _holds(text: str, fact: str, asked: str) -> bool:
    """Whether a text says a fact, under any of its names and ways of writing a number; not where
    it denies it, or names it among other numbers that nobody asked for."""
    plain = figures(text)
    if _TAKEN_BACK.search(plain.replace("’", "'")):
        return False
    return any(
        says(plain, figures(one), denied=False) and not _among_others(plain, one, asked)
        for one in fact.split("|")
    )


def _among_others(plain: str, fact: str, asked: str) -> bool:
    """Whether a fact is one of several that stand side by side as if any of them might do."""
    wanted = figures(fact)
    if not _NUMBER.fullmatch(wanted):
        listed = [names[0] for names in _NAMES.finditer(plain) if says(names[0], wanted)]
        others = (re.split(r"(?:,| and | or )\s*(?:and |or )?", names) for names in listed)
        return any(sum(not says(asked, name) for name in names) > 3 for names in others)
    known = {wanted, *_NUMBER.findall(figures(asked))}
    for listed in _LISTED.finditer(plain):
        numbers = _NUMBER.findall(listed[0])
        others = [number for number in numbers if number not in known]
        if wanted in numbers and (len(others) > 2 or (others and re.search(r"\bor\b", listed[0]))):
            return True
    return False


_FAULTS = (
    ("address_correct", True, "not the form of address that is asked for"),
    ("stuffing", False, "addresses more than once"),
    ("neutral", True, "is not neutral"),
    ("offers", True, "offers nothing"),
    ("british", True, "spells as Americans do"),
    ("unbanned", True, "uses a phrase that is none of the persona's"),
    ("first_person", True, "does not speak as I"),
    ("repetition", False, "repeats itself"),
    ("brief", True, "is too long"),
)


def _error(found: Mapping[str, bool], facts: list[str]) -> str:
    """What is wrong with an answer; "" where nothing is."""
    faults = [said for name, right, said in _FAULTS if found.get(name, right) is not right]
    if not found.get("facts", True):
        faults.append("lacks " + ", ".join(facts))
    return "; ".join(faults)


def look_over(messages: Sequence[Mapping[str, Any]], answer: str) -> list[str]:
    """What is wrong with an answer of which no right one is known (see `eval.weak`)."""
    system = "\n".join(str(turn["content"]) for turn in messages if turn["role"] == "system")
    address = persona.read_address(system)
    if address is None:
        return []
    try:
        persona.check_address(address)
    except ValueError:
        return []
    text, tone = answer.strip(), persona.tone_of(answer)
    expected = {"address": address, "tone": tone, "facts": [], "first_person": False}
    asked = [str(turn["content"]) for turn in messages if turn["role"] == "user"]
    found = _judge("", expected, text, asked[-1] if asked else "")
    said = ["the post-processor changed it"] if persona.finish(text, address) != text else []
    return said + (fault.split("; ") if (fault := _error(found, [])) else [])


# -- reading cases ---------------------------------------------------------------------------------


def _case(row: Mapping[str, Any], where: str) -> Case:
    chat = "messages" in row
    meta = row.get("meta") if chat else row
    if not isinstance(meta, Mapping):
        raise UserError(f'{where}: a row of messages needs "meta" with its address and facts.')
    if not chat:
        check_keys(row, _KEYS, where, _EXAMPLE)
    system, turns, answer = _conversation(row, where)
    if "address" not in meta:
        raise UserError(f'{where}: no "address": "sir", "madam", a name, "" or null. A case is '
                        f"{_EXAMPLE}.")  # fmt: skip
    address = meta["address"]
    try:
        if address is not None and not chat:
            system = [{"role": "system", "content": persona.system_message(address)}]
    except (ValueError, AttributeError):
        raise UserError(
            f'{where}: "address" is {shown(str(address), 80)!r}; it must be "sir", "madam", '
            'a name, "" for none, or null for a question without the persona.'
        ) from None
    own = {
        len(system) + at: (str(turn.get("category", "")), _expected(turn, address, where))
        for at, turn in enumerate(turns)
        if turn["content"] is None
    }
    return Case(
        id=str(meta.get("id") or place(where)),
        category=str(meta.get("category") or meta.get("scenario") or "uncategorised"),
        messages=(*system, *map(plain_turn, turns)),
        text=turns[-1]["content"],
        expected=_expected(meta, address, where),
        expected_text=answer,
        where=where,
        meta={"turns": sum(turn["role"] == "user" for turn in turns), "own": own},
    )


def _expected(row: Mapping[str, Any], address: str | None, where: str) -> dict[str, Any]:
    """What a case, or a turn of the model's own, says that its answer must be."""
    facts, tone = row.get("facts", []), row.get("tone", "chat")
    if not isinstance(facts, list) or not all(isinstance(f, str) and f.strip() for f in facts):
        raise UserError(f'{where}: "facts" must be a list of texts.')
    if tone not in _TONES:
        raise UserError(f'{where}: "tone" is {shown(str(tone), 80)!r}; choose {", ".join(_TONES)}.')
    first_person = bool(row.get("first_person", False))
    return {"address": address, "tone": tone, "facts": facts, "first_person": first_person}


def _conversation(
    row: Mapping[str, Any], where: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    """(system turns, the others up to the answer, the answer or "")."""
    answer: Any = row.get("answer", "")
    turns: Any = row.get("messages") or row.get("turns")
    if turns is None:
        turns = [{"role": "user", "content": row.get("text")}]
    fine = isinstance(turns, list) and all(is_turn(t, _ROLES) for t in turns)
    plain: list[dict[str, Any]] = turns if fine else []
    system = [plain_turn(turn) for turn in plain[:1] if turn["role"] == "system"]
    rest = plain[len(system) :]
    if rest and rest[-1]["role"] == "assistant" and "messages" in row:
        answer = rest.pop()["content"]
    if not rest or rest[-1]["role"] != "user" or not isinstance(answer, str):
        raise UserError(
            f'{where}: needs a "text", or "turns" of user and assistant that end in a user\'s. A '
            f"case is {_EXAMPLE}."
        )
    return system, rest, answer
