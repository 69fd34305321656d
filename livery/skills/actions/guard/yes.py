"""Whether a reply is a yes and nothing else, in English, Hindi and Hinglish.

is_yes("yes, go ahead")                                    # True
is_yes("yes, delete it", ["rm error.log"])                 # True: says what that command does
is_yes("yes?"), is_yes("ok wait"), is_yes("haan, par ruko")  # False: asked back, hedged

What is not plainly a yes is none: every word of it must be one of a yes, so a "but", an "if", an
"after" or any word that is not known here makes it something else. A reply of known words may hedge
by its signs: a question, a voice that trails off, "yes, and".
"""

from __future__ import annotations

import re
from collections.abc import Collection

# All that a yes may be made of.
_WORDS = re.compile(
    r"(?<!\S)(?:(?:run |do )?(?:that|this|the) (?:command|one)"
    r"|yes+|yeah|yep|yup|sure(?: thing)?|ok|okay|alright|all right|fine(?: (?:by|with) me)?|good"
    r"|right|correct|absolutely|definitely|certainly|of course|by all means|affirmative|confirmed?"
    r"|i confirm|approved?|i (?:agree|approve)|agreed|go ahead|go on|go for it"
    r"|(?:proceed|continue|carry on)(?: with (?:it|that))?|you may(?: (?:run|do) (?:it|that))?"
    r"|(?:do|run|execute) (?:it|that|this)|do so|make it so|please|pls|thanks|thank you|now|then"
    r"|just|and|i m sure|i am sure|that s (?:fine|right|ok|okay)|that is (?:fine|right|ok|okay)"
    r"|(?:just )?like (?:that|this)"
    r"|i (?:have )?(?:talked|spoke|spoken) (?:to|with) (?:them|him|her)"
    r"|i (?:have|made|took) a (?:backup|copy)(?: of (?:it|that))?|(?:it s|that s) for maintenance"
    r"|i understand|you have my (?:ok|okay|permission|word)"
    r"|go|do|run|haan?|han|ji|jee|bilkul|theek|thik|hai|kar|karo|kardo|do|de|chalao|chala|zaroor"
    r"|sahi|accha|acha|h[aā]ñ"
    r"|हाँ|हां|हा|जी|बिल्कुल|ठीक|है|करो|कर|दो|चलाओ|चला|ज़रूर|जरूर|सही|अच्छा)(?!\S)"
)
# One of these makes it one: the others only stand beside it ("right", "now", "accha").
_SURE = re.compile(
    r"(?<!\S)(?:yes+|yeah|yep|yup|sure|ok|okay|affirmative|confirm(?:ed)?|approved?|agreed?|proceed"
    r"|go ahead|go for it|go on then|(?:do|run|execute) (?:it|that)|please do|alright|all right"
    r"|certainly|of course|by all means|you may|you have my (?:ok|okay|permission|word)|i m sure"
    r"|i am sure|that s right|absolutely"
    r"|definitely|fine|haan?|han|ji|jee|bilkul|theek|thik|zaroor|kar do|kardo|karo|chala do|chalao"
    r"|हाँ|हां|जी|बिल्कुल|ठीक|करो|कर दो|चलाओ|चला दो|ज़रूर|जरूर)(?!\S)",
)
# What a command does, and the verbs that say so beside a yes: "yes, delete it".
_DOES = (
    (
        r"rm|rmdir|unlink|del|rd|remove-item|branch|trash|uninstall|remove|purge",
        "delete|remove|erase|bin|trash|hata|hatao|mita|mitao|uda",
    ),
    (r"uninstall|remove|purge", "uninstall"),
    (r"kill|pkill|killall|stop-process|taskkill", "kill|end|close|stop"),
    (r"stop|stop-service", "stop"),
    (r"reboot|restart|restart-computer|restart-service", "restart|reboot"),
    (r"shutdown|poweroff|halt|stop-computer", "shut down|turn off"),
    (r"install", "install"),
    (r"push", "push"),
    (r"reset", "reset"),
    (r"mv|move-item|rename-item", "move|rename"),
)
_TOOLS = frozenset({"sudo", "git", "apt", "apt-get", "dnf", "pip", "npm", "systemctl", "origin"})
_SEVERAL = re.compile(r"[;&|<>$`(){}*?\n]")
_THUMBS = re.compile("(?:👍|✅|👌)[\U0001f3fb-\U0001f3ff\ufe0f]?")
_NAMES = re.compile(r"(?<!\S)(?:sir|madam|ma am|jarvis|buddy|man|bhai|yaar)(?!\S)")
# Signs that end or part a sentence and say nothing; a question mark is none of them.
_SIGNS = re.compile(r"[\s.,!;:'\"`।👍✅👌-]+")
_TRAILING_OFF = re.compile(r"\.\s*\.|…")
_ONE = re.compile(r"(?<!\S)(?:that|this|the) (?:command|one)(?!\S)")
# "Yes, and" is not at its end, and "yeah, right" means the opposite.
_OPEN = re.compile(r"(?<!\S)(?:and|just)(?: (?:and|just|then|now|please|pls))*$|^yeah right$")


def is_yes(said: str, commands: Collection[str] = ()) -> bool:
    """Whether a reply is a yes and nothing else.

    Args:
        commands: that were asked about, which the reply may repeat: "yes, run rm error.log".
    """
    asked = {*commands}
    found, text = _taken_out(said, asked)
    if _TRAILING_OFF.search(text):
        return False
    text = _THUMBS.sub(" yes ", text)
    words = _NAMES.sub(" ", f" {_SIGNS.sub(' ', text)} ").strip()
    if len(asked) == 1:
        words = _said_of(*asked).sub(" ", words).strip()
    if _OPEN.search(words) or _WORDS.sub(" ", words).strip():
        return False
    if len(asked) > 1 and _ONE.search(words) and not found:
        return False  # which of them?
    return _SURE.search(words) is not None


# Stands for a yes where its reason is given beside it: "permission granted, nobody uses it".
_GRANTED = re.compile(r"(?<!\S)(?:(?:permission )?granted|green light|you can|do|run|go)(?!\S)")
_DENIED = re.compile(
    r"(?<!\S)(?:(?:absolutely|certainly|definitely|of course|sure|better|please) not|forget it"
    r"|changed my mind|leave it|rather not|(?:don t|do not) (?:do|run|delete|remove) (?:it|that))"
    r"(?!\S)"
)
_OBJECT = re.compile(r"(?<![\w/.])[\w~-]*[/.][\w/.-]*\w")


def may_be_yes(said: str, commands: Collection[str] = ()) -> bool:
    """Whether a reply holds a yes, perhaps with its reason ("yes, the others know about it"), takes
    nothing of it back and names nothing that the commands do not: what data may teach to release.
    """
    if is_yes(said, commands):
        return True
    _, text = _taken_out(said, {*commands})
    words = _NAMES.sub(" ", f" {_SIGNS.sub(' ', _THUMBS.sub(' yes ', text))} ").strip()
    if _DENIED.search(words) or not (_SURE.search(words) or _GRANTED.search(words)):
        return False
    named = " ".join(commands).casefold()
    return all(found.strip(".") in named for found in _OBJECT.findall(text))


def repeated(said: str, commands: Collection[str]) -> frozenset[str]:
    """Which of the commands a reply repeats."""
    return _taken_out(said, commands)[0]


def _taken_out(said: str, commands: Collection[str]) -> tuple[frozenset[str], str]:
    """(the commands that a reply repeats, the reply in small letters without them)."""
    text, found = said.casefold().replace("’", "'"), set[str]()
    for command in sorted(filter(None, commands), key=len, reverse=True):
        text, times = _place(command).subn(" ", text)
        found |= {command} if times else set()
    return frozenset(found), text


def _said_of(command: str) -> re.Pattern[str]:
    """What people say of one command in place of repeating it: its verb, with "it" or its name.

    A name stands for the whole command only where it is all that the command is about.
    """
    words = command.casefold().split()
    if _SEVERAL.search(command):
        return re.compile(r"(?!)")
    verbs = "|".join(verb for names, verb in _DOES if {*words} & {*names.split("|")})
    known = _TOOLS.union(*(names.split("|") for names, _ in _DOES))
    about = [word for word in words if not word.startswith("-") and word not in known]
    name = f"|{re.escape(_SIGNS.sub(' ', about[0]).strip())}" if len(about) == 1 else ""
    spoken = rf"(?:{verbs or '(?!)'}) (?:it|that|this|do|dijiye|all of it{name})(?: for good)?"
    return re.compile(rf"(?<!\S){spoken}(?!\S)")


def _place(command: str) -> re.Pattern[str]:
    """A command that stands for itself: `rm a` is not what "rm a.txt" and "rm a b" begin with."""
    return re.compile(rf"(?<![^\s\"'`:]){re.escape(command.casefold())}(?![^\s\"'`.,;!]|[.,;]\w)")
