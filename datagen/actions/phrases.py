"""What is said around and between requests: fillers, joints, a yes, a no, a change of mind."""

OPENERS = (
    "", "", "", "", "hey, ", "ok ", "please ", "um ", "so ", "listen, ", "alright, ", "hi, ",
    "assistant, ", "right, ", "one thing, ", "well, ", "pls ", "computer, ", "now ",
)  # fmt: skip
CLOSERS = (
    "", "", "", "", " please", " thanks", " now", " if you can", " quickly", " when you can",
    " will you", " thank you", " at once",
)  # fmt: skip
# Behind a title, a note, a topic: the rest of the sentence must not look like a part of it.
AFTER_WORDS = ("", "", ", please", ", thanks", " please", ", if you can", ", will you")
HINDI_OPENERS = ("", "", "", "suno, ", "bhai, ", "accha, ", "arre, ", "please ", "zara ")
HINDI_CLOSERS = ("", "", "", " please", " jaldi", " abhi", " na", " yaar")

TWO = (
    "{a} and {b}", "{a}, then {b}", "{a} and then {b}", "first {a}, then {b}", "{a} and also {b}",
    "{a}, after that {b}", "{a}; and {b}", "two things: {a} and {b}", "{a}, and while you do, {b}",
    "{a} plus {b}",
    "{a}, afterwards {b}",
    "start with this: {a}. then {b}",
    "{a}. also {b}",
    "{a}, besides that {b}",
    "do both: {a}, {b}",
    "{a}, next {b}",
    "both please, {a} and {b}",
    "{a} before you {b}",
    "{a}, followed by this: {b}",
    "i'd like two jobs done, {a} and {b}",
    "{a} & {b}",
)  # fmt: skip
THREE = (
    "{a}, {b} and {c}", "{a}, then {b}, then {c}", "first {a}, then {b} and last {c}",
    "{a} and {b}, and {c} too", "three things: {a}, {b}, {c}",
    "{a}, {b}, {c}, in this order",
    "{a}. {b}. {c}",
    "{a}, afterwards {b}, finally {c}",
    "{a} plus {b} plus {c}",
    "{a}, next {b}, at the end {c}",
    "all of it: {a}, {b} and then {c}",
    "{a}; {b}; {c}",
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
    ("my back hurts, {a}", "Take care."),
    ("the coffee machine broke again, {a}", "What a pity."),
    ("we just adopted a puppy, {a}", "How lovely."),
    ("i missed the bus, {a}", "Bad luck."),
    ("today is our anniversary, {a}", "Congratulations."),
    ("i hate this traffic, {a}", "Hang in there."),
    ("you are funny, {a}", "Thank you."),
    ("that meeting was deadly boring, {a}", "Glad it's over."),
    ("i've got a terrible cold, {a}", "Get well soon."),
    ("finally friday, {a}", "Enjoy the weekend."),
    ("my team lost, {a}", "Next time."),
    ("this noise is killing me, {a}", "I understand."),
    ("i cleaned the whole flat, {a}", "Impressive."),
    ("the kids are asleep at last, {a}", "Peace and quiet."),
    ("i wrecked my dinner, {a}", "It happens to everyone."),
    ("hope you slept well, {a}", "Always."),
    ("my laptop is so old, {a}", "It still works."),
)  # fmt: skip

YES = (
    "yes, go ahead", "yes", "do it", "yes please", "go ahead", "sure, run it", "ok do it",
    "yes, i'm sure", "confirmed", "that's fine, run it", "yep", "please do", "go on then",
    "right, do that", "i'm sure, proceed", "absolutely", "yes, run that command", "ok, go",
    "by all means",
    "affirmative, go ahead",
    "approved",
    "you may run it",
    "of course",
    "yes yes",
    "ok, proceed with it",
    "certainly, go ahead",
    "i agree, run it",
    "definitely",
    "i confirm",
    "sure thing, do it",
    "that's right, do it",
    "yeah, execute it",
    "yep, do it",
    "agreed, proceed",
    "you may",
    "ok fine, go ahead",
    "all right, do that",
    "confirmed, go ahead",
    "good, go ahead",
)  # fmt: skip
RELEASED = ("Running it now.", "All right, running it.", "Done as you asked.", "Going ahead.")
NO = (
    "no", "no, leave it", "don't", "stop, i changed my mind", "better not", "no thanks",
    "cancel that",
    "never mind", "no, keep it", "wait, not yet", "forget it", "no way", "leave it alone",
    "nope",
    "no, i still need it",
    "not today",
    "i'd better not",
    "stop",
    "no, too risky",
    "hold it, no",
    "nah",
    "please don't",
    "no, don't touch it",
    "not so fast, no",
    "i take it back",
    "no, forget i said that",
    "hmm no",
    "cancel",
    "let it be",
    "not now",
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
    "drop it, {a}",
    "stop, {a} rather",
    "no. {a}",
    "nope, just {a}",
    "cancel, i want this: {a}",
)  # fmt: skip
MEANT = (
    "no, i meant {x}",
    "not that one, {x}",
    "wrong one, i said {x}",
    "no no, {x}",
    "i mean {x}, not that",
    "oops, it should be {x}",
    "{x}, i mixed them up",
    "no, {x} instead",
    "i got the name wrong, it is {x}",
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
    "then {x}",
    "do {x} next",
    "{x} next",
    "one more, {x}",
    "let me have {x} as well",
    "repeat that for {x}",
    "please {x} too",
)  # fmt: skip
NEXT = (
    "{a}", "{a}", "and {a}", "now {a}", "then {a}", "next {a}", "good, and {a}", "ok. {a}",
    "great, {a} as well", "one more thing, {a}", "nice. now {a}", "also {a}", "after that, {a}",
)  # fmt: skip
VAGUE = {
    "app": (
        (
            "open a program for me",
            "there is a program i need",
            "launch something for me",
            "start an app",
            "i need an app",
        ),
        "Which one?",
    ),
    "site": (
        (
            "open a website",
            "i need the browser",
            "take me somewhere on the web",
            "go to a site for me",
            "show me a web page",
        ),
        "Which site?",
    ),
    "music": (
        (
            "play something",
            "it is too quiet, play something",
            "music please",
            "put some music on",
            "i want music",
        ),
        "What would you like to hear?",
    ),
    "folder": (("list a folder", "show me one of my folders"), "Which folder?"),
    "topic": (
        (
            "look something up",
            "i need to find something out",
            "a web search please",
            "search the web for me",
        ),
        "What shall I look for?",
    ),
    "length": (
        ("set a timer", "i need a timer", "count down for me", "start a timer for me"),
        "For how long?",
    ),
    "percent": (("change the volume", "set the sound differently"), "To how much?"),
}
NAMED = (
    "{x}",
    "{x} please",
    "i said {x}",
    "{x} of course",
    "well, {x}",
    "let's take {x}",
    "{x}, thanks",
    "{x} will do",
    "let it be {x}",
    "i think {x}",
    "hm, {x}",
    "{x} then",
    "how about {x}",
)

BROKEN = (
    "nothing happened", "that didn't work", "your tag is broken", "it did nothing, try again",
    "i see the tag but nothing runs", "hm, no effect", "you wrote the tag wrong",
    "again please, it failed",
    "the command was cut off", "still nothing",
    "there is no bracket at the end",
    "that is only half a tag",
    "i got curly braces instead of a tag",
    "wrong format, once more",
    "it printed json and did nothing",
    "the tag never ended",
    "that can't be run as it stands",
    "angle brackets are not tags",
    "your answer had no tag in it",
    "the machine could not read that",
    "and nothing, try again",
    "i don't see any change",
    "unreadable, again please",
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
    "haan haan, kar do",
    "ji bilkul",
    "theek hai, kar do",
    "haan ji",
    "zaroor, kar do",
    "ji, chala do",
    "haan haan chalao",
    "accha, kar do",
    "bilkul, karo",
)
HINDI_NO = (
    "nahi nahi",
    "na, rehne do",
    "abhi mat karo",
    "nahi, galti se bola",
    "nahi",
    "nahi, rehne do",
    "mat karo",
    "ruko, abhi nahi",
    "nahi bhai",
    "rehne do",
)
HINDI_RELEASED = ("Theek hai, chala raha hoon.", "Ji, kar raha hoon.", "Ho gaya.")
HINDI_LEFT = ("Theek hai, rehne deta hoon.", "Ji, kuch nahi badla.", "Accha, nahi karta.")

# A yes with its reason: the model releases, the guard, which can't weigh a reason, asks once more.
YES_SINCE = (
    "yes, i have a backup", "go ahead, i checked it", "yes, nobody uses it any more",
    "do it, i know what that means", "it's mine, so yes", "yes, the others know about it",
    "you have my permission", "fine, everything is saved", "ok, i don't need it",
    "sure, that's what i want", "yes, we agreed on that this morning", "permission granted",
    "i'm aware of it, go ahead", "yes, it was my idea", "fine by me, all is saved", "green light",
    "consider it approved", "yes, i asked the team", "i've thought about it, do it",
    "right, that is the plan, go", "go ahead, there is a copy on the stick", "that's ok with me",
)  # fmt: skip

# The tool or the shell named beside a request.
TOOL = (
    "{a} with {tool}", "use {tool}: {a}", "{a}, {tool} can do that", "{a} by means of {tool}",
    "take {tool} and {a}", "{a}, {tool} is the tool", "{a} {where}", "{where}: {a}",
    "{a}, i think {tool} does it", "{a} (use {tool})", "{where}, {a}", "{a}, via {tool}",
    "call {tool}, {a}",
)  # fmt: skip
HINDI_TOOL = ("{a}, {tool} se", "{tool} se {a}", "{a}, {tool} use karo", "{where} {a}")
WHERE = {
    "bash": ("in bash", "on linux", "in the terminal", "on this ubuntu machine"),
    "powershell": ("in powershell", "on windows", "with powershell", "on my windows pc"),
}

# A sentence about something else, often with words of another request.
BESIDE = (
    "my sister loves that", "the browser can stay open", "i was listening to music all day",
    "it is already past nine", "i have no time for this", "my boss is waiting",
    "the screen is fine by the way", "we talked about it yesterday", "i cleaned the desk",
    "somebody turned the heating off", "the meeting has been moved", "i really mean it",
    "i always forget how that goes", "this computer is getting old", "no need to hurry",
    "the printer works again", "i've finished the report", "my folder is a mess",
    "the neighbours are noisy today", "i restarted this thing an hour ago", "it has to be done",
    "my kids are asking for it", "the disk is new", "i found it in an old mail", "don't laugh",
    "i deleted the wrong mail once", "the wifi is slow", "i don't care how you do it",
    "there is a cat on my keyboard", "the tests passed, finally", "tea is ready",
)  # fmt: skip

# Two deeds in one sentence, each named by its tag or its bash command in intents.txt.
_APP, _SITE, _MUSIC = "launch_app: {app}", "open_url: https://{site}", "play_music: {music}"
_LIST, _READ, _TIMER = "file_list: ~/{folder}", "file_read: ~/{file}", "set_timer: {length}"
_SEARCH, _VOLUME, _FIND = "search: {topic}", "set_volume: {percent}", "search_system: {file}"
BOTH = (
    ("open {} and {}", _APP, _APP), ("{} and {}, i need the two of them", _APP, _APP),
    ("start {} as well as {}", _APP, _APP), ("launch both {} and {}", _APP, _APP),
    ("get {} running, {} too", _APP, _APP), ("i work with {} and {}, bring up both", _APP, _APP),
    ("both {} and {} should be open", _APP, _APP), ("{} first and {} second", _APP, _APP),
    ("go to {} and {}", _SITE, _SITE), ("a tab for {} and a tab for {}", _SITE, _SITE),
    ("show me {} and, next to it, {}", _SITE, _SITE), ("load {}, then {}", _SITE, _SITE),
    ("look up {} and {}", _SEARCH, _SEARCH), ("two searches: {}, {}", _SEARCH, _SEARCH),
    ("what is in my {} folder and in my {} folder", _LIST, _LIST),
    ("list the folders {} and {}", _LIST, _LIST), ("read {} and {} to me", _READ, _READ),
    ("where are {} and {}, find both", _FIND, _FIND),
    ("timers for {} and {}", _TIMER, _TIMER),
    ("start {} with {} in the background", _APP, _MUSIC),
    ("{} on the screen and {} in my ears", _APP, _MUSIC),
    ("play {}, loudness {}", _MUSIC, _VOLUME), ("{} and the sound at {} percent", _MUSIC, _VOLUME),
    ("put {} on, but only {} percent loud", _MUSIC, _VOLUME),
    ("give me {} and set the speakers to {}", _MUSIC, _VOLUME),
    ("volume {}, music {}", _VOLUME, _MUSIC), ("{} for {}, set a timer", _MUSIC, _TIMER),
    ("visit {} and stop the time, {}", _SITE, _TIMER),
    ("{} in a tab, {} on the timer", _SITE, _TIMER),
    ("search {} while {} plays", _SEARCH, _MUSIC), ("a timer of {} and the app {}", _TIMER, _APP),
    ("the app {} and the page {}", _APP, _SITE), ("bring me to {}, and fire up {}", _SITE, _APP),
    ("no sound and no access: mute and lock", "mute", "lock_screen"),
    ("quiet first, then lock everything", "mute", "lock_screen"),
    ("a picture of the screen, and then a fresh desktop", "screenshot", "new_desktop"),
    ("read the clipboard out and take a screenshot", "clipboard_get", "screenshot"),
    ("disk space and running processes please", "df -h", "ps aux"),
    ("the uptime and the date", "uptime", "date"),
    ("tell me the git status and after it the user name", "git status", "whoami"),
    ("system info and disk space, both", "system_info", "df -h"),
    ("{} open, speakers silent", _APP, "mute"), ("mute, and {} on the clock", "mute", _TIMER),
)  # fmt: skip
