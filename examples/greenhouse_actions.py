"""Actions of your own: what is said to a greenhouse, answered in words and tags.

livery data examples/greenhouse_actions.py
livery train examples/greenhouse_actions.py
livery eval examples/greenhouse_actions.py --adapter adapters/greenhouse --baseline
livery run examples/greenhouse_actions.py            # all of it, and a report
"""

from livery.skills import Metric, actions
from livery.skills.actions import Answer, Verb, Verbs

NAME = "greenhouse"

# The verbs that the program behind it knows. actions.VERBS.extended((...)) adds to those that ship.
VERBS = Verbs(
    (
        Verb("water", ("irrigate",), about="bed | minutes"),
        Verb("window", ("vent",), about="percent open"),
        Verb("report", (), "none"),
    )
)
SYSTEM_PROMPT = (
    "You look after a greenhouse. Answer in one short sentence, then put each tag on a line of its "
    f"own: [ACTION]verb: argument[/ACTION]. Verbs: {', '.join(VERBS.names)}. Talk has no tags."
)
GRAMMAR = actions.grammar(VERBS)
METRICS = (
    Metric("verbs", "The right verbs, whatever their order."),
    Metric("chat_tag", "A tag where the answer is talk.", better="lower"),
)


def parse(answer):
    return actions.as_value(actions.parse_answer(answer, VERBS))


def render(value):
    return actions.render(actions.as_answer(value, VERBS), VERBS)


def score(case, value):
    wanted, got = (
        sorted((tag["verb"], tag["argument"].casefold()) for tag in one["tags"])
        for one in (case.expected, value)
    )
    return {
        "correct": wanted == got,
        "verbs": [verb for verb, _ in wanted] == [verb for verb, _ in got],
        "chat_tag": bool(got) if not wanted else None,
    }


BEDS = ("tomatoes", "beans", "orchids", "herbs", "lettuce", "peppers", "melons", "ferns")
# One wording is one family: those that are held out for a test never stand in the training rows.
WATER = (
    "water the {bed} for {n} minutes",
    "the {bed} look dry, give them {n} minutes",
    "{n} minutes of rain on the {bed} please",
    "could the {bed} get a drink of {n} minutes",
    "sprinklers over the {bed}, {n} minutes",
    "i forgot the {bed} yesterday so water them, {n} minutes will do",
)
WINDOW = (
    "open the roof {n} percent",
    "it is stuffy in here, windows to {n}",
    "set the vents to {n} percent",
    "let some air in, {n} percent is enough",
    "i would like the glass {n} percent open",
    "crack the windows to about {n}",
)
REPORT = (
    "how is the greenhouse",
    "what do the sensors say",
    "give me the numbers",
    "is everything all right out there",
    "temperature and moisture, how are they",
    "any trouble with the plants today",
)
TALK = (
    "thank you very much",
    "i love the smell of {bed}",
    "my neighbour grows {bed} too",
    "do you like {bed}",
    "what a lovely morning",
    "when are {bed} ripe",
)

BEFORE = ("", "ok ", "hey ", "so ", "well ", "right ", "listen ", "good morning ")
AFTER = ("", " please", " now", " thanks", " if you can", " will you")


def generate(rng):
    def row(category, wordings, reply, tags):
        wording = rng.choice(wordings)
        bed, n = rng.choice(BEDS), rng.randrange(2, 60)
        text = rng.choice(BEFORE) + wording.format(bed=bed, n=n) + rng.choice(AFTER)
        found = [actions.action(verb, form.format(bed=bed, n=n), VERBS) for verb, form in tags]
        answer = actions.as_value(Answer(reply.format(bed=bed, n=n), tuple(found)))
        return {"text": text, "answer": answer, "category": category, "family": wording}

    while True:
        yield row("water", WATER, "Watering the {bed}.", [("water", "{bed} | {n}")])
        yield row("window", WINDOW, "Opening to {n} percent.", [("window", "{n}")])
        yield row("report", REPORT, "Here is the report.", [("report", "")])
        yield row("talk", TALK, "How nice of you to say so.", [])


TRAIN_ROWS = 200
