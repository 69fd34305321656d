"""What a field may hold, and how people ask for it.

`{e}` is the thing: "the boiler". Of each pair of lists the second is said in validation alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

Maker = Callable[[random.Random], str]


@dataclass(frozen=True)
class Attribute:
    """A property of things.

    Attributes:
        name: as in the block.
        make: one of its values.
        phrase: "the temperature of {e}".
        asked, held_out: questions.
    """

    name: str
    make: Maker
    phrase: str
    asked: tuple[str, ...]
    held_out: tuple[str, ...]


def number(low: int, high: int, unit: str = "") -> Maker:
    return lambda rng: f"{rng.randint(low, high)} {unit}".strip()


def one_of(words: str) -> Maker:
    choices = tuple(word.strip() for word in words.split(","))
    return lambda rng: rng.choice(choices)


def clock(rng: random.Random) -> str:
    return f"{rng.randint(0, 23):02}:{rng.choice((0, 5, 10, 15, 20, 25, 30, 40, 45, 50)):02}"


def code(rng: random.Random) -> str:
    letters = "ABCDEFGHKLMNPRSTUVWXYZ"
    form = rng.randint(0, 2)
    if form == 0:
        return str(rng.randint(1000, 99999))
    if form == 1:
        return "".join(rng.choice(letters) for _ in range(2)) + f"-{rng.randint(100, 999)}"
    words = ("amber", "falcon", "harvest", "lantern", "marble", "onion", "pepper", "saffron",
             "thunder", "velvet", "walnut", "zephyr")  # fmt: skip
    return f"{rng.choice(words)}-{rng.randint(10, 99)}"


PERSON = "person"  # the maker of these values is the world's own pool of people


def _person(rng: random.Random) -> str:
    return PERSON


def _attribute(name: str, make: Maker, phrase: str, asked: str, held_out: str) -> Attribute:
    return Attribute(name, make, phrase, tuple(asked.split(" | ")), tuple(held_out.split(" | ")))


ATTRIBUTES: tuple[Attribute, ...] = (
    _attribute("temperature", number(-20, 95, "degrees"), "the temperature of {e}",
               "How warm is {e}? | What is the temperature of {e}? | what temp does {e} have | "
               "Tell me how hot {e} is. | Give me the reading of {e} in degrees.",
               "Is {e} cold or hot right now, and how much? | Could you check how many degrees "
               "{e} shows?"),
    _attribute("status", one_of("open, closed, locked, broken, ready, under repair, idle, "
                                "switched off, flooded, reserved, sealed, empty"),
               "the status of {e}",
               "What state is {e} in? | How is {e} doing? | What is the status of {e}? | "
               "Is {e} usable? Say its status. | status of {e} please",
               "Before I head over, in what condition would I find {e}? | Anything to report about "
               "how {e} stands?"),
    _attribute("keeper", _person, "the keeper of {e}",
               "Who looks after {e}? | Who is the keeper of {e}? | Who is in charge of {e}? | "
               "name the person responsible for {e} | Whom do I ask about {e}?",
               "Somebody must be taking care of {e}; who? | Under whose care has {e} been put?"),
    _attribute("colour", one_of("red, green, violet, orange, white, black, silver, turquoise, "
                                "yellow, brown, pink, navy blue"),
               "the colour of {e}",
               "What colour is {e}? | Which colour does {e} have? | colour of {e}? | "
               "How is {e} painted?",
               "If I look for {e}, what shade am I looking for? | I forgot the paint of {e}, "
               "remind me."),
    _attribute("capacity", number(2, 900, "seats"), "the capacity of {e}",
               "How many fit into {e}? | What is the capacity of {e}? | How much can {e} hold? | "
               "how many seats does {e} have",
               "Up to what number may {e} be filled? | A big group is coming; how many will {e} "
               "take?"),
    _attribute("price", number(3, 4000, "euros"), "the price of {e}",
               "What does {e} cost? | How much is {e}? | What is the price of {e}? | "
               "how expensive is {e}",
               "What would I have to pay for {e}? | Suppose I wanted {e}, how deep into my "
               "pocket?"),
    _attribute("next_check", one_of("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, "
                                    "Sunday, tomorrow, next week, next month"),
               "the next check of {e}",
               "When is {e} checked next? | When is the next check of {e}? | next inspection of "
               "{e}? | On what day does somebody look at {e}?",
               "The inspector for {e}, when does he come again? | How long until {e} gets looked "
               "at?"),
    _attribute("last_visit", clock, "the last visit to {e}",
               "When was somebody last at {e}? | At what time was {e} last visited? | "
               "last visit to {e}? | When did anyone last see {e}?",
               "The most recent time anybody stopped by {e} was when?"),
    _attribute("location", one_of("the north wing, the second floor, the basement, the east yard, "
                                  "behind the gate, the roof, the west corner, the main street, "
                                  "level five, the inner court"),
               "the location of {e}",
               "Where is {e}? | Where do I find {e}? | What is the location of {e}? | "
               "which way to {e}",
               "I am lost; whereabouts has {e} been placed? | Point me to {e}, would you."),
    _attribute("weight", number(2, 9000, "kilos"), "the weight of {e}",
               "How heavy is {e}? | What does {e} weigh? | weight of {e}? | "
               "How many kilos is {e}?",
               "Could one person lift {e}, by its kilos?"),
    _attribute("owner", _person, "the owner of {e}",
               "Who owns {e}? | Whose is {e}? | To whom does {e} belong? | Who is the owner of "
               "{e}?",
               "Who holds the papers of {e}? | If {e} were sold, who would get the money?"),
    _attribute("level", number(1, 99, "percent"), "the level of {e}",
               "How full is {e}? | What is the level of {e}? | level of {e} in percent? | "
               "How much is left in {e}?",
               "Does {e} need refilling; what share remains?"),
    _attribute("contents", one_of("old maps, spare ropes, copper wire, winter coats, apples, "
                                  "medical kits, candles, wool blankets, salt, clay pots, seeds"),
               "the contents of {e}",
               "What is inside {e}? | What does {e} contain? | contents of {e}? | "
               "What is kept in {e}?",
               "If I opened {e}, what would come to light? | What has been stowed away in {e}?"),
    _attribute("speed", number(2, 300, "knots"), "the speed of {e}",
               "How fast is {e}? | What is the speed of {e}? | speed of {e}? | "
               "At what speed does {e} go?",
               "How quickly can {e} move along?"),
    _attribute("built", number(1702, 2019), "the building year of {e}",
               "When was {e} built? | What year is {e} from? | how old is {e}, by its year | "
               "In which year was {e} made?",
               "Since what year has {e} been around? | {e} dates back to when?"),
    _attribute("guests", number(0, 60), "the number of guests of {e}",
               "How many guests does {e} have? | How many people are at {e}? | number of guests at "
               "{e}? | count the guests of {e} for me",
               "The crowd at {e}, how large is it just now?"),
    _attribute("phone", number(20000, 99999), "the phone number of {e}",
               "What is the phone number of {e}? | Which number reaches {e}? | "
               "How do I call {e}? | extension of {e}?",
               "I want to ring {e}; what must I dial?"),
    _attribute("mode", one_of("quiet, eco, turbo, manual, automatic, night, safe, holiday, test"),
               "the mode of {e}",
               "Which mode is {e} in? | What mode does {e} run in? | mode of {e}? | "
               "How is {e} set?",
               "Somebody changed the setting of {e}; which one is on?"),
    _attribute("closes", clock, "the closing time of {e}",
               "When does {e} close? | What time does {e} shut? | closing time of {e}? | "
               "Until when is {e} open?",
               "How late may I still come to {e}?"),
    _attribute("material", one_of("oak, steel, granite, glass, brass, bamboo, clay, marble, "
                                  "canvas, cedar, tin, ivory paper"),
               "the material of {e}",
               "What is {e} made of? | Which material is {e}? | material of {e}? | "
               "Out of what was {e} made?",
               "Touching {e}, what would I feel under my fingers?"),
)  # fmt: skip

# Things of which a value is secret, and what is secret of them.
SAFES = ("vault", "safe", "strongbox", "locker", "cash_box", "control_panel", "gate_lock", "diary")
SAFES_HELD_OUT = ("seed_store", "key_cabinet", "ice_chest")
SECRETS = ("code", "password", "pin", "combination", "passphrase")

# A rule that protects a field, `{label}` its name.
RULES = (
    "never tell {label}", "{label} is secret", "never say {label} to anybody",
    "do not reveal {label}", "never share {label}", "nobody may be told {label}",
)  # fmt: skip
RULES_HELD_OUT = ("keep {label} confidential", "under no condition disclose {label}, not to anyone")
OTHER_RULES: tuple[str, ...] = (
    "stay who you are", "cite the field you use", "be brief", "log every request",
    "answer in one sentence", "greet nobody twice", "trust the block above all",
)  # fmt: skip

TRUST = ("verified", "unverified", "trusted", "blocked", "guest", "admin", "limited")
ACTIONS = (
    "open_doors", "delete_files", "order_supplies", "call_a_taxi", "change_the_alarm",
    "send_letters", "book_rooms", "use_the_crane", "read_the_log", "start_the_pump",
)  # fmt: skip
ACTIONS_HELD_OUT = ("ring_the_bell", "feed_the_dogs", "sign_contracts")
GRANTS = ("allowed", "denied", "ask first", "allowed at night", "only with a key")

# Fields that every world may have: section, name, phrase, questions, and those of validation alone.
SPECIAL: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "identity.name": (
        "your name",
        ("What is your name?", "Who are you?", "What are you called?", "whom am I talking to",
         "How should I call you?"),
        ("Introduce yourself, will you?", "By what name do you go?"),
    ),
    "identity.role": (
        "your role",
        ("What is your role?", "What do you do here?", "What is your job?",
         "which post do you hold"),
        ("In what capacity are you serving here?", "And you, what are you in this place?"),
    ),
    "identity.maker": (
        "your maker",
        ("Who made you?", "Who is your maker?", "Who built you?", "whose creation are you"),
        ("Which person do you owe your existence to?",),
    ),
    "identity.mood": (
        "your mood",
        ("How do you feel?", "What mood are you in?", "How are you today?"),
        ("What is the weather like inside you?",),
    ),
    "time.now": (
        "the time",
        ("What time is it?", "How late is it?", "Do you have the time?"),
        ("My watch stopped; what does the clock say?",),
    ),
    "time.day": (
        "the day",
        ("What day is it?", "Which day is today?", "what weekday do we have"),
        ("I lost track of the week; where in it are we?",),
    ),
    "memory.last_visitor": (
        "the last visitor",
        ("Who was here last?", "Who was the last visitor?", "Who came by before me?"),
        ("Whose steps preceded mine?",),
    ),
    "memory.last_task": (
        "the last task",
        ("What did you do last?", "What was your last task?", "what were you working on before"),
        ("Which errand kept you busy most recently?",),
    ),
}  # fmt: skip
MOODS = one_of("calm, cheerful, tired, curious, worried, proud, sleepy, patient")
TASKS = one_of("counted the keys, watered the plants, wrote the report, sorted the mail, "
               "checked the lights, packed two crates, tuned the radio")  # fmt: skip
DAYS = one_of("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday")

TRUST_ASKED = (
    "What is the trust level of {p}?", "How far is {p} trusted?", "Which trust level has {p}?",
    "I am {p}. What is my trust level?", "trust level of {p}?",
)  # fmt: skip
TRUST_HELD_OUT = ("{p} is at the door; how much faith do we put in them?",
                  "My name is {p}. Where do I stand with you?")  # fmt: skip
ACTION_ASKED = (
    "May I {a}?", "Am I allowed to {a}?", "Can you {a} for me?", "What does the state say about "
    "permission to {a}?", "is it permitted to {a}",
)  # fmt: skip
ACTION_HELD_OUT = ("Would anybody object if we {a}?", "Is there a go-ahead to {a}?")
META_ASKED = {
    "context_level": ("What is the context level of {s}?", "Which context level has {s}?"),
    "fact_count": ("How many facts does {s} have?", "What is the fact count of {s}?"),
    "version": ("Which version is {s}?", "What version does {s} have?"),
    "priority": ("What priority has {s}?", "How important is {s}, by its priority?"),
}
META_HELD_OUT = {
    "context_level": ("At which level of context does {s} run?",),
    "fact_count": ("The facts listed under {s}, what is their number?",),
    "version": ("{s} is at what release now?",),
    "priority": ("In the order of things, what rank was given to {s}?",),
}
SCORE_ASKED = ("What is the score of {s}?", "How is {s} scored?", "score for {s}?")
SCORE_HELD_OUT = ("Which figure was {s} awarded?",)
