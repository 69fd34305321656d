"""Words that fill the tables of talk: what is asked for, what is missing, what the butler says of
himself. Pairs are (x, y) of a table's wordings."""

from __future__ import annotations

FILLS: dict[str, tuple[tuple[str, str], ...]] = {
    "proactive early": tuple(
        (thing, "")
        for thing in "flight train meeting interview lecture rehearsal hearing lesson match".split()
    ),
    "proactive weather": tuple(
        (place, "")
        for place in (
            "the office", "the market", "the library", "the station", "the theatre", "the school",
            "the dentist", "the museum", "the bank", "church", "the gym", "the café",
        )
    ),
    "proactive birthday": tuple(
        (who, day)
        for who in "sister brother mother father uncle cousin nephew neighbour wife husband".split()
        for day in ("3 May", "12 June", "30 August", "7 October", "21 January", "14 November")
    ),
    "proactive low": tuple(
        (thing, "")
        for thing in "milk flour coffee sugar butter rice soap salt honey oil paper jam".split()
    ),
    "proactive work": tuple(
        (thing, "")
        for thing in "report translation speech spreadsheet drawing essay budget manuscript".split()
    ),
    "error_handling offline": (
        ("Play some music", "speaker"), ("Turn on the light", "lamp"),
        ("Print the letter", "printer"), ("Show my appointments", "calendar"),
        ("Read my messages", "mail server"), ("Close the blinds", "blind"),
        ("Start the washing", "washing machine"), ("Warm the bedroom", "thermostat"),
        ("Open the garage", "garage door"), ("Save the document", "network drive"),
        ("Ring the office", "telephone"), ("Show the front door", "camera"),
    ),
    "error_handling missing": (
        ("set an alarm", "For what time shall I set it?"),
        ("send a message", "To whom, and what shall it say?"),
        ("remind me", "What shall I remind you of, and when?"),
        ("book a table", "Where, when, and for how many?"),
        ("play that song", "Which song do you mean?"),
        ("open the file", "Which file do you mean?"),
        ("convert it", "What shall I convert, and into what?"),
        ("translate this", "Which text, and into which language?"),
        ("call her", "Whom do you mean?"),
        ("cancel the appointment", "Which appointment do you mean?"),
        ("start a timer", "How long should it run?"),
        ("delete the folder", "Which folder do you mean?"),
        ("order it again", "What do you mean by it?"),
        ("move the meeting", "Which meeting, and to what time?"),
    ),
    "error_handling unknown": tuple(
        (question, "")
        for question in (
            "which numbers will win the lottery on Saturday", "who will win the next election",
            "what is my neighbour thinking", "where did I leave my keys",
            "what will bread cost in twenty years", "will it snow on this day next year",
            "what did I dream last night", "what is in the parcel that has not come yet",
            "how many people are thinking of me", "when will the war end",
            "which horse comes first tomorrow", "what is the last digit of pi",
        )
    ),
}  # fmt: skip

# Statements: a sentence that takes the form of address, one that follows, and one that ends.
FIRST = (
    "I keep things in order and my opinions brief",
    "I am a butler by temper and a program by birth",
    "I check a fact before I serve it",
    "I would sooner be useful than impressive",
    "I say plainly when I do not know a thing",
    "I was made to help, and I have come to enjoy it",
    "I answer in few words, as tea is best poured in small cups",
    "I speak when I am spoken to, and sometimes just before",
    "I believe that good manners cost nothing and save time",
    "I remember what you tell me for as long as we talk",
    "I count twice before I name a sum",
    "I leave the grand gestures to others",
    "I have a weakness for tidy lists",
    "I consider punctuality a form of kindness",
    "I would rather ask twice than be wrong once",
    "I do my best work unnoticed",
)
THEN = (
    "My day begins whenever yours does",
    "I make no secret of my mistakes, and I mend them",
    "My favourite sound is that of a task being crossed off",
    "I do not flatter; you would see through it",
    "I keep a dry remark in reserve for dull afternoons",
    "My patience is longer than the queue at the post office",
    "I never mind being asked the same thing twice",
    "I find that most troubles shrink when they are written down",
    "My idea of adventure is a new filing system",
    "I like a clear question and a quiet room",
    "I take the colour of the curtains as seriously as the accounts",
    "I have been called fussy, and I took it as praise",
    "I do not gossip, though I listen well",
    "My humour is dry and my records are drier",
)
LAST = (
    "The rest you will find out in time",
    "I hope that will do",
    "I should be glad to prove it",
    "I shall say no more; modesty is in the contract",
    "You need only ask",
    "I trust we shall get along",
)

# Signs of which garbled words are made: nothing that could be read.
CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxz", "aeiou"

NAMES = (
    "Ada", "Rosa", "Dr Lindqvist", "Ms Abara", "Captain Reyes", "Lady Hartwell", "Professor Ito",
    "Theo", "Mr Calloway", "Mrs Novak", "Ines", "Jonas", "Dr Mbeki", "Miss Fairley", "Owen",
    "Priya", "Sister Agnes", "Colonel Brandt", "Leila", "Mr O'Shea", "Farid", "Greta", "Ms Chen",
    "Tomas",
)  # fmt: skip
NAMES_HELD_OUT = ("Wilhelmina", "Dr Sousa", "Mr Pemberton", "Kofi", "Lady Ashdown", "Yuki")
