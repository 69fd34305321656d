"""How people type, and what the contract makes of it before the model sees it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livery.skills.date_keys import normalise

TYPED = """
TOMORROW | tomorrow
WAKE ME UP AT 6AM TOMORROW!!! | wake me up at 6 am tomorrow
Note to self: pay rent (tomorrow). | note to self pay rent tomorrow
“Dinner with Sam” — Saturday at 7:30 PM | dinner with sam saturday at 7:30 pm
- Buy milk today 🙏 | buy milk today
*urgent* send it today… | urgent send it today
Call Dr. Lee on Tuesday. It's about the scan. | call dr lee on tuesday it's about the scan
Jarvis, lights off at midnight; thanks | jarvis lights off at midnight thanks
tomorrooow morninggg | tomorrow morning
open http://10.0.0.1:8080/12am at 3p | open link at 3 pm
Mail sam@today.com, now! | mail link now
Monday.com login (www.noon.org/15:30) | link login link
cafe.com. On Friday | link on friday
tomorrow,at 5 | tomorrow at 5
'til Friday | til friday
the boys' night | the boys' night
Ｔｏｍｏｒｒｏｗ\u00a0３ｐｍ | tomorrow 3 pm

tmr | tomorrow
tmrw 6:30a run | tomorrow 6:30 am run
what's on 2day | what's on today
see u 2nite | see u tonight
bbq this wknd | bbq this weekend
thx for yest | thx for yesterday
rent due nxt mon | rent due next monday
due next wk, next mth or next yr | due next week next month or next year
gym tues. evening | gym tuesday evening
lunch thurs | lunch thursday
fri's call | friday's call
dr appt weds 4pm | dr appt wednesday 4 pm
footy sun arvo | footy sunday afternoon
in 2 hrs ping me | in 2 hours ping me
in 10 min. | in 10 minutes
in 45 mins | in 45 minutes
half an hr | half an hour
give me a sec | give me a second
to morrow, sun day or wednes day | tomorrow sunday or wednesday
dentist mon 9am | dentist monday 9 am
meet sat at 10 | meet saturday at 10
next wed lunch | next wednesday lunch
Wed, Thu or Fri | wednesday thursday or friday
sat and sun I'm away | saturday and sunday i'm away
mon/tue | monday or tuesday
Mon-Wed is blocked | monday to wednesday is blocked
bins out mon | bins out monday

alarm 3p | alarm 3 pm
pickup at 3:15p | pickup at 3:15 pm
class starts 9:00a. | class starts 9 am
wake me at 3 in the AM | wake me at 3 am
coffee in the AM | coffee in the morning
meet me @ 10 | meet me at 10
standup @10am | standup at 10 am
call at 15h | call at 3 pm
train leaves 13h15 | train leaves 1:15 pm
15h | 3 pm
16h of work | 16 hours of work
15h00 | 3 pm
330 p.m. | 3:30 pm
in ½ hour | in half an hour
in 1½ hours | in 1.5 hours
this week-end | this weekend
Thursday from 9a to 11a | thursday from 9 am to 11 am
at 7h30 | at 7:30 am
be there at 17.30 | be there at 5:30 pm
dinner at 8.30pm | dinner at 8:30 pm
at 8.30 | at 8.30
five-thirty pm | five thirty pm
set it for 00:30 | set it for 12:30 am
start at 08:00 | start at 8 am
the show's at 20:45 | the show's at 8:45 pm
09:30 pm | 9:30 pm
6 o clock, 7 O'Clock, 8 oclock | 6 o'clock 7 o'clock 8 o'clock
radio on at 0730 hours | radio on at 7:30 am
recording at 2100 hrs | recording at 9 pm
12am | midnight
lunch at 12:00 P.M. | lunch at noon
12:30pm | 12:30 pm
half 12 pm | half 12 pm
ten to 12 pm | ten to 12 pm
12 noon | noon
00:00 | midnight
9am-5pm | 9 am to 5 pm
9-5pm | 9 am to 5 pm
10-11pm | 10 pm to 11 pm
10-12pm, 8-12am | 10 am to noon 8 pm to midnight
12 - 2:30pm | noon to 2:30 pm
from 2 to 4 pm | from 2 pm to 4 pm
between nine and five p.m. | between nine am and five pm
seven until eight pm | seven pm until eight pm
ten to four pm | ten to four pm
half 2 to 4 pm | half 2 to 4 pm
nineteen forty five until 5 am | nineteen forty five until 5 am
7pm - midnight | 7 pm to midnight
9a-5p | 9 am to 5 pm
meet 9a tomorrow | meet 9 am tomorrow
seat 9a tomorrow | seat 9a tomorrow
around 5pmish | around 5 pm ish
15 o'clock | 3 pm
¼ to 5pm | quarter to 5 pm
1/2 past 6 pm | half past 6 pm
in 1,5 hours | in 1.5 hours
home b4 6pm | home before 6 pm
seat b4 tomorrow | seat b4 tomorrow
day b4 yesterday | day before yesterday
Mon. – Fri. or Tues - Thurs | monday to friday or tuesday to thursday
TMRW@8AM, a@b | tomorrow at 8 am a@b
8am,9am or 2pm/3pm | 8 am 9 am or 2 pm or 3 pm
7-30pm; 7;45am; half-7 pm | 7:30 pm 7:45 am half 7 pm
19:30h, 19.30h or 19:30 hrs | 7:30 pm 7:30 pm or 7:30 pm
worked 17.30 hours | worked 17.30 hours
qtr past 3 pm next qtr | quarter past 3 pm next qtr
in 1hr30 or a hr | in 1 hour 30 minutes or an hour
midnite tnite | midnight tonight
by eod fri | by end of day friday
10:00 - 11:30 | 10:00 to 11:30
5 P M | 5 pm

7am & 8:30pm | 7 am and 8:30 pm
shop 09:30 - 10:45 | shop 9:30 am to 10:45 am
between 9:15 and 17:00 | between 9:15 am and 5 pm
from 11:30 to 1:15 | from 11:30 to 1:15
ready at 640 in the evening | ready at 6:40 in the evening
cinema at 915 tonight | cinema at 9:15 tonight
room 915 tonight | room 915 tonight
bus at 0:20 | bus at 12:20 am
a quarter to noon | 11:45 am
18 to midday | 11:42 am
five minutes before midnight | five minutes before midnight
10 minutes before midnight | 11:50 pm
half past midnight | 12:30 am
ten to noon | ten to noon

todays news, tomorrows lunch | today's news tomorrow's lunch
this weeks menu | this week's menu
the next weeks are full | the next weeks are full
see me today afternoon | see me this afternoon
the show is today night | the show is tonight
for the current month | for this month
the previous tuesday | last tuesday
the previous owner | the previous owner
this coming weekend | this weekend
the upcoming monday and month | this monday and month
upcoming years | upcoming years
is mum coming friday | is mum coming friday
thursday next week is bad | next thursday is bad
on sunday of last week | on last sunday
next thursday next week | next thursday next week
last week's wednesday | last wednesday
a day from right now | a day from now
in 3 fortnights | in 42 days
in 2h | in 2 hours
in 1h30 | in 1 hour 30 minutes
in about 12 hrs | in about 720 minutes
in forty-eight hours | in 2880 minutes
16 hours from now | 960 minutes from now
for 24 hours | for 24 hours
24 hours ago | 24 hours ago
in 10 hours | in 10 hours
in 1 week and 3 days | in 10 days
in eighty hours | in 4800 minutes
in eighty five weeks and three days | in 598 days
a hundred and twenty hours from now | a hundred and twenty hours from now
in a hundred and two weeks and three days | in a hundred and two weeks and three days
in 2 hr 15 min | in 2 hours 15 minutes
leaving in 5m | leaving in 5 minutes
twenty-five minutes | twenty five minutes
a 20-minute workout | a 20 minute workout
""".strip().splitlines()


@pytest.mark.parametrize("line", [line for line in TYPED if line])
def test_what_is_typed_is_what_is_said(line: str) -> None:
    typed, said = line.split(" | ")
    assert normalise(typed) == said


UNTOUCHED = """
the sun is up
sat nav home
he sat there
i sat on my phone
we wed in june
next sun cream delivery
we last sat down with him
call mon ami
min wage
email hr
flat 3a
it costs 5p
room 12a
gate 7p
version 17.30
that's 17.30 euros
sell it at 17.30 euros
update to version 2.30
install python 3.11.4
ping 192.168.1.10
stamp 2024-05-06t15:30:00
on 12/05/2025
timer 00:30:00
call 555-0199
dial +44 20 7946 0958
drive to 1530 main street
order 4512-11
a 16:9 screen
ps5
e-mail me the t-shirt
it is $12.30
it is £3.50
i am 12
she is 9
may the 4th
""".strip().splitlines()


@pytest.mark.parametrize("text", UNTOUCHED)
def test_what_is_no_time_stays(text: str) -> None:
    assert normalise(text) == text


PIECES = st.sampled_from(
    "mon tue wed sat sun fri tmrw 2nite noon midnight 12 3 15 30 17.30 8.30 3p 3:15p 13h15 15h 2h "
    "1h30 00:30 12:00 7:05 23:59 0730 am pm a.m. p.m. p a m h hrs min mins sec hour hours at @ in "
    "on to by - – — / & , . ; : ! ? ' ’ “ ” ( ) half quarter past o clock o'clock 'til the next "
    "last day morrow noon's 🙂 … £ $ v2 a@b.co http://x.y/3p 2-day five-thirty tomorrooow".split()
)
SPACED = st.lists(st.tuples(PIECES, st.sampled_from(["", " ", " ", " ", "  "])), max_size=9).map(
    lambda pieces: "".join(f"{piece}{space}" for piece, space in pieces)
)


@pytest.mark.slow
@given(SPACED | st.text(max_size=12))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert once == once.strip()
    assert "  " not in once


@given(st.integers(0, 23), st.integers(0, 59), st.sampled_from([":", "h", "."]))
def test_a_full_clock_becomes_the_same_time_with_am_or_pm(hour: int, minute: int, sign: str):
    said = normalise(f"call at {hour:02}{sign}{minute:02}")
    half = "am" if hour < 12 else "pm"
    past = f":{minute:02}" if minute else ""
    expected = f"call at {(hour - 1) % 12 + 1}{past} {half}"
    if (hour, minute) in ((0, 0), (12, 0)):
        expected = "call at midnight" if hour == 0 else "call at noon"
    open_ = 10 <= hour <= 12 and sign != "h"  # "at 10:30" may be morning or evening
    assert said == (f"call at {hour:02}{sign}{minute:02}" if open_ else expected)


@pytest.mark.slow
@given(st.integers(1, 12), st.integers(0, 59), st.sampled_from("ap"))
def test_every_spelling_of_am_and_pm_is_one(hour: int, minute: int, half: str) -> None:
    clock = f"{hour}:{minute:02}"
    spelled = {
        normalise(f"at {clock}{mark}")
        for mark in (f"{half}m", f" {half}m", f" {half.upper()}.M.", f"{half}", f" {half} m")
    }
    assert len(spelled) == 1


@given(st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,3}){2,3}", fullmatch=True))
def test_versions_and_addresses_in_figures_stay(figures: str) -> None:
    assert normalise(f"Open {figures}.") == f"open {figures}"


@pytest.mark.parametrize("short", "mon tue tues wed weds thu thur thurs fri sat sun".split())
def test_weekdays_in_short_after_next(short: str) -> None:
    assert re.fullmatch(r"call next \w+day", normalise(f"Call next {short}."))
