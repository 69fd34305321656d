"""What is said around and between requests: fillers, joints, a yes, a no, a change of mind."""

OPENERS = (
    "", "", "", "", "hey, ", "ok ", "please ", "um ", "so ", "listen, ", "alright, ", "hi, ",
    "assistant, ", "right, ", "one thing, ", "well, ",
)  # fmt: skip
CLOSERS = (
    "", "", "", "", " please", " thanks", " now", " if you can", " quickly", " when you can",
    " will you", " thank you", " at once",
)  # fmt: skip
HINDI_OPENERS = ("", "", "", "suno, ", "bhai, ", "accha, ", "arre, ", "please ", "zara ")
HINDI_CLOSERS = ("", "", "", " please", " jaldi", " abhi", " na", " yaar")

TWO = (
    "{a} and {b}", "{a}, then {b}", "{a} and then {b}", "first {a}, then {b}", "{a} and also {b}",
    "{a}, after that {b}", "{a}; and {b}", "two things: {a} and {b}", "{a}, and while you do, {b}",
)  # fmt: skip
THREE = (
    "{a}, {b} and {c}", "{a}, then {b}, then {c}", "first {a}, then {b} and last {c}",
    "{a} and {b}, and {c} too", "three things: {a}, {b}, {c}",
)  # fmt: skip
DOING_TWO = ("Sure, doing both.", "Both coming up.", "On it, one after the other.", "Right, both.")
DOING_THREE = ("Sure, all three.", "On it, one after the other.", "All three coming up.")

MIXED = (
    ("i'm tired, {a}", "Take it easy."), ("good morning, {a}", "Good morning."),
    ("what a day, {a}", "I hope it gets better."), ("hello, how are you, {a}", "I'm fine, thanks."),
    ("i finally finished my exam, {a}", "Congratulations."),
    ("it's raining again, {a}", "Stay dry."),
    ("you were a great help before, now {a}", "Glad to hear that."),
    ("my sister is visiting tonight, {a}", "How nice."), ("i can't sleep, {a}", "Poor you."),
    ("we won the match, {a}", "Well done."), ("i love this song, anyway {a}", "Good taste."),
    ("ugh, mondays, {a}", "We'll get through it."), ("guess who got the job, {a}", "Well done."),
    ("lunch was great, {a}", "Good to hear."),
    ("i'm a bit nervous about tomorrow, {a}", "You'll do well."),
)  # fmt: skip

YES = (
    "yes, go ahead", "yes", "do it", "yes please", "go ahead", "sure, run it", "ok do it",
    "yes, i'm sure", "confirmed", "that's fine, run it", "yep", "please do", "go on then",
    "right, do that", "i'm sure, proceed", "absolutely", "yes, run that command", "ok, go",
)  # fmt: skip
RELEASED = ("Running it now.", "All right, running it.", "Done as you asked.", "Going ahead.")
NO = (
    "no", "no, leave it", "don't", "stop, i changed my mind", "better not", "no thanks",
    "cancel that",
    "never mind", "no, keep it", "wait, not yet", "forget it", "no way", "leave it alone",
)  # fmt: skip
LEFT = (
    "All right, I leave it as it is.",
    "Fine, nothing is changed.",
    "Cancelled.",
    "As you wish, I won't.",
)
INSTEAD = (
    "no, {a} instead", "forget that, {a}", "never mind that, {a}", "leave it, {a}", "not now, {a}",
    "actually no, {a}", "skip that and {a}", "no, but {a}", "hold on, {a} first",
)  # fmt: skip
MEANT = (
    "no, i meant {x}",
    "not that one, {x}",
    "wrong one, i said {x}",
    "no no, {x}",
    "i mean {x}, not that",
)
# A question of the assistant's about something else, and the user's yes to that.
ASIDE = (
    ("hang on, tell me a joke first", "Gladly. Do you like puns?"),
    ("wait, are you a robot", "I'm a program. Does that bother you?"),
    ("one moment, i'm tired", "I see. Would you like to take a break?"),
    ("before that, do you like music", "I play it for others. Do you like jazz?"),
    ("hm, let me think", "Of course. Do you need more time?"),
    ("what would you do", "I would keep it for now. Shall we talk about it later?"),
    ("is it raining", "I can't look outside. Are you going out?"),
    ("i'm hungry", "Lunch sounds good. Do you fancy soup?"),
)  # fmt: skip
ASIDE_ANSWERS = (
    "Good to know.",
    "I see, take your time.",
    "All right then.",
    "Lovely, just tell me when.",
)

THANKS = ("thanks", "thank you", "great, thanks", "perfect", "that was quick", "nice one", "cheers")
WELCOME = ("You're welcome.", "Any time.", "Glad to help.", "My pleasure.")
SAME = (
    "and {x}", "now {x}", "the same for {x}", "{x} as well", "what about {x}", "also {x}",
    "and now the same with {x}", "{x} too", "next {x}",
)  # fmt: skip
VAGUE = {
    "app": (("open a program for me", "start an app", "i need an app"), "Which one?"),
    "site": (("open a website", "go to a site for me", "show me a web page"), "Which site?"),
    "music": (("play something", "put some music on", "i want music"),
    "What would you like to hear?"),
    "folder": (("list a folder", "show me one of my folders"), "Which folder?"),
    "topic": (("look something up", "search the web for me"), "What shall I look for?"),
    "length": (("set a timer", "start a timer for me"), "For how long?"),
    "percent": (("change the volume", "set the sound differently"), "To how much?"),
}  # fmt: skip
NAMED = (
    "{x}",
    "{x} please",
    "i said {x}",
    "{x} of course",
    "well, {x}",
    "let's take {x}",
    "{x}, thanks",
)

BROKEN = (
    "nothing happened", "that didn't work", "your tag is broken", "it did nothing, try again",
    "i see the tag but nothing runs", "hm, no effect", "you wrote the tag wrong",
    "again please, it failed",
    "the command was cut off", "still nothing",
)  # fmt: skip
SORRY = (
    "Sorry, once more.",
    "My mistake, here it is again.",
    "Sorry, now properly.",
    "Let me try again.",
)

HINDI_YES = (
    "haan, kar do",
    "haan",
    "theek hai, chalao",
    "ji haan",
    "haan bilkul",
    "kar do",
    "haan chala do",
)
HINDI_NO = ("nahi", "nahi, rehne do", "mat karo", "ruko, abhi nahi", "nahi bhai", "rehne do")
HINDI_RELEASED = ("Theek hai, chala raha hoon.", "Ji, kar raha hoon.", "Ho gaya.")
HINDI_LEFT = ("Theek hai, rehne deta hoon.", "Ji, kuch nahi badla.", "Accha, nahi karta.")
