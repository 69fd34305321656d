"""What is said to a house, as one JSON object: "make it 21 in the kitchen" -> room, device, value.

livery data examples/home_skill.py
livery train examples/home_skill.py
livery eval examples/home_skill.py --adapter adapters/home --baseline
livery run examples/home_skill.py                 # all of it, and a report
"""

from livery.skills import Metric

NAME = "home"
SYSTEM_PROMPT = "Turn what is said to the house into one JSON object: room, device, value."

ROOMS = ("kitchen", "bathroom", "bedroom", "hall", "study", "nursery", "attic", "garage")
DEVICES = ("heating", "lights", "blinds")

# The grammar of constrained decoding and the parser both follow from this.
JSON_SCHEMA = {
    "type": "object",
    "properties": {
        "room": {"enum": ROOMS},
        "device": {"enum": [*DEVICES, "none"]},
        "value": {"type": "integer", "minimum": 0, "maximum": 100},
    },
    "required": ["room", "device", "value"],
    "additionalProperties": False,
}

CATEGORIES = (*DEVICES, "none")
METRICS = (
    Metric("device", "The right device is named."),
    Metric("off_by", "How far the value is from the right one.", kind="number", better="lower"),
)

# Every wording is a family: one that is held out for a test never stands in the training rows.
SAID = {
    "heating": (
        "set the heating in the {room} to {value} degrees",
        "i would like it {value} degrees warm in the {room}",
        "{room} thermostat {value}",
        "could you heat the {room} up until we are at {value}",
        "the {room} feels cold so go for {value} celsius",
        "warm the {room}, {value} is fine",
        "it should never be colder than {value} in our {room}",
    ),
    "lights": (
        "dim the lights in the {room} to {value} percent",
        "{value} percent brightness for the {room} please",
        "i can hardly see in the {room} so make the lamps {value} percent",
        "lamps of the {room} at {value}",
        "brightness {room} {value}",
        "we are reading in the {room} and want {value} percent light",
    ),
    "blinds": (
        "close the blinds in the {room} to {value} percent",
        "the sun is in my eyes, {room} blinds {value} percent down",
        "lower every blind of the {room} by {value}",
        "shade the {room} about {value} percent",
        "pull {room} shutters down {value}",
        "nobody should look into the {room}, shutters at {value}",
    ),
    "none": (
        "how many people of {value} years fit into a {room}",
        "play song number {value} through the {room} speaker",
        "remind me of the {room} in {value} minutes",
        "write {value} tiles for the {room} on my list",
        "who painted our {room} {value} years ago",
        "tell me a joke about {value} ducks and one {room}",
    ),
}


def generate(rng):
    """Yields rows without end; Livery takes what it needs and splits them by family."""
    while True:
        device = rng.choice(CATEGORIES)
        said = rng.choice(SAID[device])
        room, value = rng.choice(ROOMS), rng.randrange(5, 31 if device == "heating" else 96)
        yield {
            "text": said.format(room=room, value=value),
            "answer": {"room": room, "device": device, "value": 0 if device == "none" else value},
            "category": device,
            "family": said,
        }


def score(case, answer):
    """The figures of one answer that parsed; `correct` is there without a word: equal to the
    expected one."""
    return {
        "device": answer["device"] == case.expected["device"],
        "off_by": abs(answer["value"] - case.expected["value"]),
    }
