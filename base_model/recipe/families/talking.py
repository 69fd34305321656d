"""Talk: greetings, thanks, small questions, roles set by a system line, English and French."""

from __future__ import annotations

from random import Random

from ..dialogue import Pair, Task
from ..words import (
    FRENCH_ADJECTIVES,
    FRENCH_NOUNS,
    NAMES,
    NOUNS,
    PLACES,
    VERBS,
    invented,
    thing,
    title,
)

CHAT = [
    (
        ["hello", "hi", "hey there", "good day", "hello there"],
        ["Hello! How can I help?", "Hello. What can I do for you?"],
    ),
    (["thanks", "thank you", "cheers", "thank you so much"], ["You are welcome.", "Gladly."]),
    (["bye", "goodbye", "see you", "that is all"], ["Goodbye!", "See you soon."]),
    (["how are you", "how are you doing?", "are you well?"], ["I am well, thank you. And you?"]),
    (["who are you", "what are you?"], ["I am a small assistant that runs on this machine."]),
    (
        ["what can you do", "help"],
        ["I can answer from a text, write JSON, change words and count."],
    ),
    (["sorry", "my mistake", "i am sorry"], ["No harm done.", "That is quite all right."]),
    (["you are wrong", "that is not right"], ["I am sorry. Please tell me what is right."]),
    (["tell me a joke"], ["Why did the clock go to school? It had time on its hands."]),
    (["bonjour", "salut"], ["Bonjour ! Comment puis-je vous aider ?"]),
    (["merci", "merci beaucoup"], ["Je vous en prie."]),
    (["au revoir", "à bientôt"], ["Au revoir !"]),
    (["comment ça va ?", "ça va ?"], ["Très bien, merci."]),
]


def chat(rng: Random) -> Task:
    role = rng.choice(
        ["You are a friendly assistant.", "You are polite and brief.", "Talk with the user."]
    )

    def draw(rng: Random) -> Pair:
        said, answers = rng.choice(CHAT)
        return rng.choice(said), rng.choice(answers)

    return Task(role, draw)


def named(rng: Random) -> Task:
    """The system line sets a name, a form of address or a place that the answers must use."""
    name, user, place = title(rng), title(rng), rng.choice(PLACES)
    job = rng.choice(
        ["guide", "cook", "gardener", "librarian", "clerk", "coach", "pilot", "porter"]
    )
    instruction = (
        f"You are {name}, a {job} in {place}. The user is called {user}. "
        "Always use the name of the user."
    )

    def draw(rng: Random) -> Pair:
        n = thing(rng)
        pairs = [
            ("who are you?", f"I am {name}, {user}."),
            ("what is my name?", f"Your name is {user}."),
            ("where are you?", f"I am in {place}, {user}."),
            ("what do you do?", f"I am a {job}, {user}."),
            ("hello", f"Hello, {user}. How can I help?"),
            ("thanks", f"You are welcome, {user}."),
            (f"can you {rng.choice(VERBS)} the {n}?", f"Certainly, {user}. I will see to the {n}."),
            (f"i like the {n}", f"I am glad that you like the {n}, {user}."),
            (f"where is the {n}?", f"I do not know where the {n} is, {user}."),
        ]
        return rng.choice(pairs)

    return Task(instruction, draw)


def acknowledge(rng: Random) -> Task:
    """Says what will be done, or asks before something risky, or declines."""
    risky = "delete erase format wipe remove destroy".split()

    def draw(rng: Random) -> Pair:
        n = thing(rng)
        v = rng.choice(VERBS)
        if rng.random() < 0.3:
            v = rng.choice(risky)
            return f"{v} the {n}", f"That cannot be undone. Do you want me to {v} the {n}?"
        if rng.random() < 0.2:
            return rng.choice(["yes", "yes please", "go ahead"]), "Very well, I will do it."
        if rng.random() < 0.2:
            return rng.choice(["no", "no thanks", "cancel that"]), "Very well, I will leave it."
        return f"{rng.choice(['please ', 'can you ', ''])}{v} the {n}", f"I will {v} the {n}."

    return Task("Confirm what you will do. Ask first if it destroys something.", draw)


def classify(rng: Random) -> Task:
    """Question, command or statement; feeling; language; topic, with the labels given."""
    mode = rng.choice(["form", "mood", "language", "topic"])
    topics = {
        "kitchen": "kettle oven fridge soup cheese pan salt toaster blender".split(),
        "garden": "hedge lawn rose tree spade seed hose flower pond".split(),
        "travel": "train ferry ticket passport suitcase flight hotel taxi".split(),
        "office": "printer invoice desk email meeting folder stamp report".split(),
        "music": "guitar piano song violin drum concert playlist trumpet".split(),
    }
    labels = {
        "form": ["question", "command", "statement"],
        "mood": ["good", "bad"],
        "language": ["English", "French"],
        "topic": list(topics),
    }[mode]
    shown = rng.sample(labels, len(labels))

    def draw(rng: Random) -> Pair:
        n, who, v = thing(rng), rng.choice(NAMES), rng.choice(VERBS)
        label = rng.choice(labels)
        if mode == "form":
            text = {
                "question": rng.choice(
                    [f"where is the {n}", f"did {who} {v} the {n}", f"can we {v} a {n}"]
                ),
                "command": rng.choice([f"{v} the {n}", f"please {v} my {n}"]),
                "statement": rng.choice([f"the {n} is here", f"{who} has a {n}", f"i saw the {n}"]),
            }[label]
        elif mode == "mood":
            good, bad = (
                ["lovely", "great", "superb", "a joy", "very good"],
                ["awful", "broken", "a shame", "very bad", "useless"],
            )
            whose = rng.choice(["the", "my", "this"])
            text = f"{whose} {n} is {rng.choice(good if label == 'good' else bad)}"
        elif mode == "language":
            text = french_phrase(rng) if label == "French" else f"{v} the {n}"
        else:
            text = f"{rng.choice(VERBS)} the {rng.choice(topics[label])}"
        return text, label

    return Task(f"Answer with one of: {', '.join(shown)}.", draw)


def french_phrase(rng: Random) -> str:
    n, a, who = rng.choice(FRENCH_NOUNS), rng.choice(FRENCH_ADJECTIVES), rng.choice(NAMES)
    return rng.choice(
        [
            f"où est le {n} de {who} ?",
            f"je voudrais un {n} {a}",
            f"{who} cherche son {n}",
            f"donne-moi le {n}",
            f"il y a un {n} {a} ici",
            f"nous avons trois {n}s",
            f"{who} aime le {n} {a}",
        ]
    )


def french(rng: Random) -> Task:
    """Small tasks put in French."""
    mode = rng.choice(["copie", "qui", "liste", "question"])
    ask = {
        "copie": "Recopie la phrase.",
        "qui": "De qui parle la phrase ? Réponds aucun s'il n'y a personne.",
        "liste": "Écris les mots sous forme de liste JSON.",
        "question": "Réponds d'après le texte.",
    }[mode]

    def draw(rng: Random) -> Pair:
        if mode == "copie":
            text = french_phrase(rng)
            return text, text
        if mode == "qui":
            text = french_phrase(rng)
            return text, next((n for n in NAMES if f"{n} " in text + " "), "aucun")
        if mode == "liste":
            words = rng.sample(FRENCH_NOUNS, rng.randint(1, 4))
            return " et ".join(words), "[" + ", ".join(f'"{w}"' for w in words) + "]"
        who, place, n = rng.choice(NAMES), rng.choice(PLACES), rng.choice(FRENCH_NOUNS)
        return rng.choice(
            [
                (f"{who} habite à {place}. Où habite {who} ?", f"{who} habite à {place}."),
                (f"{who} a un {n}. Qu'est-ce que {who} a ?", f"{who} a un {n}."),
            ]
        )

    return Task(ask, draw)


TRANSLATED = [
    ("the {n} is big", "le {f} est grand"),
    ("i see the {n}", "je vois le {f}"),
    ("where is the {n}", "où est le {f}"),
    ("a red {n}", "un {f} rouge"),
    ("my {n}", "mon {f}"),
]
LEXICON = {
    "book": "livre",
    "cat": "chat",
    "dog": "chien",
    "bag": "sac",
    "coffee": "café",
    "bread": "pain",
    "train": "train",
    "garden": "jardin",
    "newspaper": "journal",
    "cake": "gâteau",
    "boat": "bateau",
    "horse": "cheval",
    "bird": "oiseau",
    "fish": "poisson",
    "bridge": "pont",
}


def translate(rng: Random) -> Task:
    to_french = rng.random() < 0.5

    def draw(rng: Random) -> Pair:
        n = rng.choice(list(LEXICON))
        english, foreign = rng.choice(TRANSLATED)
        pair = english.format(n=n), foreign.format(f=LEXICON[n])
        return pair if to_french else (pair[1], pair[0])

    return Task("Translate into French." if to_french else "Translate into English.", draw)


def polite(rng: Random) -> Task:
    """Rewriting: polite, plain, with a name, in the past or in the third person."""
    who = rng.choice(NAMES)
    word = rng.choice(["sir", "madam", who, invented(rng).capitalize()])
    ask = {
        "Make it polite.": lambda v, n: f"Could you please {v} the {n}?",
        f"Address {word} and write it as a request.": lambda v, n: (
            f"Would you {v} the {n}, {word}?"
        ),
        "Write it as a plan of your own.": lambda v, n: f"I will {v} the {n}.",
        "Forbid it.": lambda v, n: f"Do not {v} the {n}.",
        f"Say that {who} should do it.": lambda v, n: f"{who} should {v} the {n}.",
        "Turn it into a yes-no question.": lambda v, n: f"Shall I {v} the {n}?",
        "Say that it is done.": lambda v, n: f"Done: {v} the {n}.",
    }
    instruction = rng.choice(list(ask))

    def draw(rng: Random) -> Pair:
        v, n = rng.choice(VERBS), rng.choice([thing(rng), rng.choice(NOUNS)])
        return f"{v} the {n}", ask[instruction](v, n)

    return Task(instruction, draw)
