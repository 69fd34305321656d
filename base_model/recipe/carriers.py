"""Sentences that carry times: commands, questions and remarks as somebody would say them."""

from __future__ import annotations

from random import Random

from .clock import Mention, clock_face, pick_minute
from .timewords import WEEKDAYS, mention, no_mention
from .words import NAMES, NOUNS, PLACES, VERBS, invented, thing

OPENERS = """could you please|can you|please|would you|hey|ok|okay|i need you to|i want you to|
go ahead and|kindly|be so kind and|do me a favour and|i would like you to|let's|quickly|just|
you should|help me|make sure you|don't forget to|hello could you|right|also|then|maybe|yeah|oh|
alright|okay so|so|oh and|hi|yeah so|can we|could we|i'd like to|we're going to|i've got to|i'll|
i'm supposed to|somebody should|mate can you|if possible|when you get a chance|
i was wondering if you could""".replace("\n", "").split("|")

FILLERS = "um|uh|er|you know|like|well|so|hmm|i mean|erm|let me think|ah|actually".split("|")


def deed(rng: Random) -> str:
    """A thing to do, in the base form of the verb, without a time."""
    n, m, who, place = thing(rng), thing(rng), rng.choice(NAMES).lower(), rng.choice(PLACES).lower()
    v, w = rng.choice(VERBS), rng.choice(VERBS)
    forms = [
        f"{v} the {n}",
        f"{v} my {n}",
        f"{v} a {n} for {who}",
        f"remind me to {v} the {n}",
        f"remind me about the {n}",
        f"remind {who} to {v} my {n}",
        "set an alarm",
        f"set a reminder for the {n}",
        "set a timer",
        "wake me up",
        f"wake {who}",
        f"schedule a {n} meeting",
        f"schedule a meeting with {who}",
        f"book a table at the {n}",
        f"book a {rng.choice(['flight', 'train', 'room', 'seat', 'taxi'])} to {place}",
        f"put the {n} on the calendar",
        f"add {n} to the {rng.choice(['list', 'shopping list', 'diary', 'calendar'])}",
        f"call {who}",
        f"ring {who} about the {n}",
        f"text {who} that the {n} is {rng.choice(['ready', 'late', 'here', 'gone'])}",
        f"send {who} the {n}",
        f"email {who} my {n}",
        f"play some {rng.choice(['jazz', 'music', 'rock', 'piano', 'news', invented(rng)])}",
        f"turn {rng.choice(['on', 'off'])} the {n}",
        f"switch the {n} {rng.choice(['on', 'off'])}",
        f"dim the lights in the {n} room",
        f"open the {n}",
        f"lock the {n} door",
        f"start the {n}",
        f"water the {n}",
        f"feed the {n}",
        f"order {n} and {m}",
        f"pick up {who} from the {n}",
        f"pick up the {n}",
        f"take out the {n}",
        f"move my {n} appointment",
        f"cancel the {n} lesson",
        f"meet {who} in {place}",
        f"{v} and {w} the {n}",
        f"show me the {n}",
        f"tell me about the {n} in {place}",
        f"check the {n} at the {m}",
        f"record the {n} show",
        f"plan a trip to {place}",
        f"read me the {n} notes",
        f"look for a {n} near {place}",
        f"heat the {n}",
        f"charge the {n}",
        f"leave for {place}",
        f"visit {who}",
        f"buy {rng.randint(2, 90)} {n}s",
        f"set the {n} to {rng.randint(2, 99)}",
        f"turn the volume to {rng.randint(1, 20)}",
        f"get the {n} ready",
        f"get {n} and {m} from the shop",
        f"pick up the {n}s and another {m}",
        f"drop {who} home",
        f"give {who} a nudge about the {n}",
        f"let {who} know about the {n}",
        f"take the {n} to the {m}",
        f"put the {n} and the {m} on",
        f"make sure the {n} is {rng.choice(['off', 'on', 'shut', 'ready', 'clean', 'charged'])}",
        f"find out if the {n} is any good",
        f"swap my {n} with {who}",
        f"pencil in the {n}",
        f"block out some time for the {n}",
        f"have the {n} {rng.choice(['cleaned', 'sent', 'fixed', 'picked up', 'ready'])}",
        f"chase {who} about the {n} and the {m}",
        f"tell the {n} we're not coming",
        f"ask {who} whether the {n} has arrived",
    ]
    return rng.choice(forms)


def question(rng: Random) -> str:
    """A question with a place for a time, marked `{}`."""
    n, who, place = thing(rng), rng.choice(NAMES).lower(), rng.choice(PLACES).lower()
    v = rng.choice(VERBS)
    forms = [
        "what is the weather {}",
        f"what's the weather in {place} {{}}",
        "will it rain {}",
        "what's on my calendar {}",
        "do i have anything {}",
        "am i free {}",
        "who is coming {}",
        f"did {who} {v} the {n} {{}}",
        f"is the {n} open {{}}",
        f"when is the {n} {{}}",
        f"what did i {v} {{}}",
        f"how many {n}s do we have {{}}",
        f"can {who} {v} the {n} {{}}",
        f"is there a train to {place} {{}}",
        f"does {who} work {{}}",
        "what's my schedule {}",
        f"how did the {n} do {{}}",
        f"are we meeting {who} {{}}",
        f"where was the {n} {{}}",
        f"should i {v} the {n} {{}}",
        f"what time does the {n} open {{}}",
        "anything good on {}",
        f"has {who} got the {n} {{}}",
        f"was there any {n} {{}}",
        f"could we {v} the {n} {{}} instead",
        f"who's got the {n} {{}}",
        f"is it still ok to {v} {{}}",
    ]
    return rng.choice(forms)


def remark(rng: Random) -> str:
    """A statement with a place for a time, marked `{}`."""
    n, who, place = thing(rng), rng.choice(NAMES).lower(), rng.choice(PLACES).lower()
    v = rng.choice(VERBS)
    forms = [
        f"i have a {n} {{}}",
        f"i have to {v} the {n} {{}}",
        f"{who} will {v} the {n} {{}}",
        f"the {n} arrives {{}}",
        f"my {n} starts {{}}",
        f"we leave for {place} {{}}",
        f"there is a {n} party {{}}",
        f"i need the {n} {{}}",
        f"the {n} was {rng.choice(['broken', 'late', 'closed', 'lovely', 'open'])} {{}}",
        f"{who} is visiting {{}}",
        f"i saw {who} {{}}",
        f"our flight to {place} is {{}}",
        f"i'll be at the {n} {{}}",
        f"dinner with {who} {{}}",
        f"{n} appointment {{}}",
        f"i'm going to {v} {{}}",
        f"note that the {n} is due {{}}",
        f"i'm at the {n} {{}}",
        f"we're having {n} {{}}",
        f"there's a {n} {{}}",
        f"i've got {n} with {who} {{}}",
        f"it's {who}'s {n} {{}}",
        f"i'd rather do the {n} {{}}",
        f"the {n} broke {{}} and nobody noticed",
        f"{who} said the {n} was sent {{}}",
        f"they moved the {n} {{}}",
        f"i didn't get to {v} the {n} {{}}",
        f"we had {n} for everyone {{}}",
    ]
    return rng.choice(forms)


def clause(rng: Random, when: str) -> str:
    """One clause with a time at its end, its front or in the middle."""
    draw = rng.random()
    if draw < 0.2:
        return question(rng).format(when)
    if draw < 0.36:
        return remark(rng).format(when)
    action = deed(rng)
    if draw < 0.48:
        return f"{when} {action}"
    if draw < 0.55:
        action = rng.choice(["remind me", "schedule", "set a reminder", "i want you", "tell me"])
        return f"{action} {when} to {rng.choice(VERBS)} the {thing(rng)}"
    if draw < 0.6:
        return f"{action} {when} {rng.choice(['please', 'with ' + rng.choice(NAMES).lower()])}"
    return f"{action} {when}"


def slips(rng: Random, text: str) -> str:
    """What a recogniser does to compound words."""
    pairs = [("tomorrow", "to morrow"), ("tonight", "to night"), ("today", "to day")]
    pairs += [("weekend", "week end"), ("afternoon", "after noon"), ("midnight", "mid night")]
    pairs += [
        ("o'clock", "oclock"),
        ("what's", "whats"),
        ("let's", "lets"),
        ("yesterday", "yester day"),
    ]
    pairs += [("tomorrow", "tomorow"), ("tomorrow", "tommorow"), ("wednesday", "wensday")]
    pairs += [("fortnight", "fort night"), ("lunchtime", "lunch time"), ("minutes", "minuets")]
    pairs += [("next", "nex"), ("next", "necks"), ("hours", "ours"), ("evening", "evenin")]
    pairs += [("half", "haff"), ("quarter", "quater"), ("minutes", "minits"), ("morning", "mornin")]
    pairs += [("saturday", "saterday"), ("tuesday", "tues day"), ("in the", "inthe")]
    found = [pair for pair in pairs if pair[0] in text]
    return text.replace(*rng.choice(found), 1) if found else text


def spoken_sentence(rng: Random, mentions: list[Mention]) -> str:
    """The mentions in order inside one sentence, in a recogniser's or a writer's spelling."""
    if not mentions:
        base = deed(rng) if rng.random() < 0.6 else clause(rng, "").strip()
        parts = [" ".join(base.split())]
    elif len(mentions) == 1:
        parts = [clause(rng, mentions[0].spoken)]
    elif rng.random() < 0.35:
        joined = " and ".join(m.spoken for m in mentions)
        parts = [clause(rng, joined)]
    else:
        parts = [clause(rng, m.spoken) for m in mentions]
    text = rng.choice([" and ", " and then ", " then ", " but ", " and also "]).join(parts)
    if rng.random() < 0.3:
        text = f"{rng.choice(OPENERS)} {text}"
    if rng.random() < 0.15:
        text = f"{text} {rng.choice(['please', 'thanks', 'if you can', 'will you', 'ok'])}"
    return finish(rng, text)


def finish(rng: Random, text: str) -> str:
    """Fillers, slips, or capital letter and full stop."""
    if rng.random() < 0.14:
        words = text.split(" ")
        words.insert(rng.randrange(len(words)), rng.choice(FILLERS))
        text = " ".join(words)
    if rng.random() < 0.14:
        text = slips(rng, text)
    if rng.random() < 0.3:
        text = text[0].upper() + text[1:]
        for name in NAMES + PLACES:
            if name.lower() in text:
                text = " ".join(name if w == name.lower() else w for w in text.split(" "))
        text += rng.choice([".", ".", "", "!"])
    return text


def owned(rng: Random) -> tuple[str, list[str]]:
    """A time as an owner, or as where something is moved from and to."""
    names = [("tomorrow", "tomorrow"), ("today", "today"), ("yesterday", "yesterday")]
    names += [(day, f"this {day}") for day in WEEKDAYS]
    names += [(f"next {x}", f"next {x}") for x in (*WEEKDAYS, "week", "month", "year", "weekend")]
    names += [(f"last {x}", f"last {x}") for x in (*WEEKDAYS, "week", "month", "year", "weekend")]
    names += [("this weekend", "this weekend"), ("tonight", "tonight")]
    (said, plain), (said_b, plain_b) = rng.sample(names, 2)
    n, v, who = rng.choice(NOUNS), rng.choice(VERBS), rng.choice(NAMES).lower()
    if rng.random() < 0.6:
        s = rng.choice(["'s", "'s", "s", "s'"])
        forms = [
            f"{v} {said}{s} {n}",
            f"what's in {said}{s} {n}",
            f"cancel {said}{s} {n} with {who}",
        ]
        forms += [f"is {said}{s} {n} still on", f"tell {who} about {said}{s} {n}"]
        return finish(rng, rng.choice(forms)), [plain]
    forms = [f"move the {n} from {said} to {said_b}", f"swap {said} and {said_b}"]
    forms += [f"{v} the {n} between {said} and {said_b}", f"push {said} to {said_b}"]
    return finish(rng, rng.choice(forms)), [plain, plain_b]


def timed_sentence(rng: Random) -> tuple[str, list[str]]:
    """A sentence and its plain times in order; about one in four has none."""
    draw = rng.random()
    if rng.random() < 0.06:
        return owned(rng)
    if draw < 0.1:
        mentions: list[Mention] = []
    elif draw < 0.28:
        mentions = [no_mention(rng)]
    elif draw < 0.62:
        mentions = [mention(rng)]
    elif draw < 0.72:
        mentions = [mention(rng), no_mention(rng)]
        rng.shuffle(mentions)
    elif draw < 0.93:
        mentions = [mention(rng), mention(rng)]
    else:
        mentions = [mention(rng) for _ in range(3)]
    plain = [time for m in mentions for time in m.plain]
    if len(set(plain)) != len(plain):
        return timed_sentence(rng)
    return spoken_sentence(rng, mentions), plain


def named_thing(rng: Random) -> Mention:
    """Something whose name holds a word of time; it says nothing of when."""
    things = """black friday|monday blues|night shift|morning coffee|evening dress|weekend bag|
midnight blue paint|day cream|sunday papers|week planner|month view|year book|night light|
saturday kitchen|morning routine playlist|noon prayer app|friday night lights|day trip|night bus|
weekend rates|evening classes|monday motivation playlist""".replace("\n", "").split("|")
    clock = clock_face(rng, rng.randint(1, 11), pick_minute(rng))
    owned = [f"my {clock} {rng.choice(['call', 'meeting', 'train', 'appointment'])}"]
    owned += [f"the {clock} {rng.choice(['bus', 'slot', 'show', 'flight'])}"]
    return Mention(rng.choice([f"the {rng.choice(things)}"] * 3 + owned))


def busy_sentence(rng: Random) -> tuple[str, list[str]]:
    """A sentence with two to four different times, and often something that is none."""
    while True:
        mentions = [mention(rng) for _ in range(rng.choices([2, 3, 4], [50, 38, 12])[0])]
        plain = [time for m in mentions for time in m.plain]
        if len(set(plain)) == len(plain):
            break
    if rng.random() < 0.3:
        mentions.insert(rng.randint(0, len(mentions)), no_mention(rng))
    if rng.random() < 0.2:
        name = named_thing(rng)
        text = f"{rng.choice(VERBS)} {name.spoken} {rng.choice(['and', 'then', 'and then'])} "
        return text + spoken_sentence(rng, mentions), plain
    if rng.random() < 0.35:
        joint = rng.choice([" and ", ", ", ", and ", " or ", ", then "])
        return finish(rng, clause(rng, joint.join(m.spoken for m in mentions))), plain
    return spoken_sentence(rng, mentions), plain
