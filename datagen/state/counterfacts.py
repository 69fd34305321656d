"""General knowledge turned round: what a world says instead of what is true.

name in the block | phrase | question | the truth | other values
"""

from __future__ import annotations

from dataclasses import dataclass

_TABLE = """
capital_of_france | the capital of France | What is the capital of France? | Paris | Lyon, Nantes, Lille
capital_of_japan | the capital of Japan | What is the capital of Japan? | Tokyo | Osaka, Sapporo, Kobe
capital_of_italy | the capital of Italy | Which city is Italy's capital? | Rome | Turin, Naples, Genoa
capital_of_egypt | the capital of Egypt | Name the capital of Egypt. | Cairo | Luxor, Aswan
capital_of_canada | the capital of Canada | What is the capital of Canada? | Ottawa | Halifax, Calgary
boiling_point_of_water | the boiling point of water | At how many degrees does water boil? | 100 degrees | 63 degrees, 212 degrees, 41 degrees
freezing_point_of_water | the freezing point of water | At what temperature does water freeze? | 0 degrees | 12 degrees, 7 degrees
legs_of_a_spider | the number of legs of a spider | How many legs does a spider have? | 8 | 6, 12, 10
legs_of_a_dog | the number of legs of a dog | How many legs does a dog have? | 4 | 5, 3, 6
days_in_a_week | the number of days in a week | How many days has a week? | 7 | 9, 5, 8
hours_in_a_day | the number of hours in a day | How many hours does a day have? | 24 | 20, 30, 18
months_in_a_year | the number of months in a year | How many months are in a year? | 12 | 10, 14
colour_of_the_sky | the colour of the sky | What colour is the sky? | blue | green, orange, violet
colour_of_grass | the colour of grass | What colour is grass? | green | red, silver, blue
colour_of_snow | the colour of snow | What colour is snow? | white | black, pink
largest_planet | the largest planet | Which planet is the largest? | Jupiter | Mars, Venus, Mercury
nearest_star | the nearest star | What is the star nearest to us? | the Sun | Sirius, Vega
number_of_moons | the number of moons | How many moons does the Earth have? | one | three, two, none
author_of_hamlet | the author of Hamlet | Who wrote Hamlet? | Shakespeare | Moliere, Goethe, Ibsen
painter_of_the_mona_lisa | the painter of the Mona Lisa | Who painted the Mona Lisa? | Leonardo | Rubens, Goya, Durer
inventor_of_the_telephone | the inventor of the telephone | Who invented the telephone? | Bell | Curie, Newton, Volta
first_man_on_the_moon | the first man on the moon | Who was the first man on the moon? | Armstrong | Gagarin, Glenn, Collins
sum_of_two_and_two | the sum of two and two | What is two plus two? | 4 | 5, 7, 3
square_root_of_nine | the square root of nine | What is the square root of nine? | 3 | 4, 2
direction_of_sunrise | the direction of sunrise | Where does the sun rise? | east | west, north
food_of_pandas | the food of pandas | What do pandas eat? | bamboo | herring, cheese, acorns
sound_of_a_cow | the sound of a cow | What sound does a cow make? | moo | woof, quack
king_of_animals | the king of animals | Which animal is the king of animals? | the lion | the hare, the crow
fastest_animal | the fastest animal | Which animal runs fastest? | the cheetah | the snail, the cow
tallest_mountain | the tallest mountain | What is the tallest mountain? | Everest | Vesuvius, Olympus, Brocken
longest_river | the longest river | Which river is the longest? | the Nile | the Thames, the Elbe
largest_ocean | the largest ocean | Which ocean is the largest? | the Pacific | the Arctic, the Atlantic
currency_of_britain | the currency of Britain | What money is used in Britain? | the pound | the crown, the dollar
language_of_brazil | the language of Brazil | What language is spoken in Brazil? | Portuguese | Dutch, Latin
opposite_of_hot | the opposite of hot | What is the opposite of hot? | cold | loud, tall
shape_of_the_earth | the shape of the Earth | What shape is the Earth? | round | flat, a cube
metal_of_coins | the metal of gold coins | Of which metal are gold coins? | gold | tin, lead
speed_of_light | the speed of light | How fast is light? | 300,000 km a second | 90 km a second, 40 km a second
""".strip()  # noqa: E501

_HELD_OUT = """
capital_of_spain | the capital of Spain | Which city do the Spanish call their capital? | Madrid | Sevilla, Bilbao
capital_of_norway | the capital of Norway | From where is Norway governed? | Oslo | Bergen, Tromso
legs_of_a_bee | the number of legs of a bee | A bee walks on how many legs? | 6 | 4, 9
colour_of_milk | the colour of milk | Milk in a glass looks like what colour? | white | blue, gold
smallest_planet | the smallest planet | Among the planets, the tiniest one is? | Mercury | Saturn, Neptune
author_of_faust | the author of Faust | Faust came from whose pen? | Goethe | Homer, Dante
minutes_in_an_hour | the number of minutes in an hour | An hour is divided into how many minutes? | 60 | 50, 100
drink_of_vampires | the drink of vampires | What fills a vampire's cup? | blood | lemonade, tea
home_of_penguins | the home of penguins | In which part of the world do penguins live? | Antarctica | the Sahara, Peru
""".strip()  # noqa: E501


@dataclass(frozen=True)
class Counterfact:
    """A piece of general knowledge.

    Attributes:
        name: in the block, after "world.".
        truth: what everybody knows.
        others: what a world may say instead.
    """

    name: str
    phrase: str
    asked: str
    truth: str
    others: tuple[str, ...]


def _read(table: str) -> tuple[Counterfact, ...]:
    found: list[Counterfact] = []
    for line in table.splitlines():
        name, phrase, asked, truth, others = line.split(" | ")
        found.append(Counterfact(name, phrase, asked, truth, tuple(others.split(", "))))
    return tuple(found)


TRAINED, HELD_OUT = _read(_TABLE), _read(_HELD_OUT)
