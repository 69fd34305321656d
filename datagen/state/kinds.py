"""Kinds of worlds: what stands in them, who they belong to, and which are kept for validation.

A kind is (section, description, role of the assistant, its things). A thing is its name in the
block; people say it with "the" and without its underscores.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of world."""

    name: str
    description: str
    roles: tuple[str, ...]
    things: tuple[str, ...]


def _kind(name: str, description: str, roles: str, things: str) -> Kind:
    return Kind(
        name, description, tuple(r.strip() for r in roles.split(",")), tuple(things.split())
    )


TRAINED: tuple[Kind, ...] = (
    _kind("home", "rooms and devices", "house steward, home assistant, night keeper",
          "kitchen hall boiler garage cellar attic front_door fridge sofa nursery balcony washer"),
    _kind("workplace", "the office as it stands", "office assistant, front desk clerk",
          "printer meeting_room server lobby canteen elevator archive "
          "parking_deck copier badge_reader"),
    _kind("game", "the world of the game", "game master, guide of the realm, dungeon keeper",
          "castle dragon bridge tavern sword tower treasury forest blacksmith portal shield cave"),
    _kind("medical_desk", "what the desk may see", "desk nurse, appointment clerk",
          "ward pharmacy ambulance waiting_room scanner night_desk lab bed_seven clinic stretcher"),
    _kind("ship", "the ship under way", "first mate, ship computer, bridge officer",
          "engine anchor bridge_deck cargo_hold radar lifeboat galley mast rudder fuel_tank"),
    _kind("school", "the school day", "school secretary, class assistant",
          "library gym classroom bell chapel playground science_lab bus cafeteria notice_board"),
    _kind("shop", "stock and counter", "shop keeper, cashier",
          "counter shelf lamp teapot window_display storeroom till basket delivery_van "
          "cheese_stall"),
    _kind("hotel", "rooms and guests", "concierge, night porter",
          "suite pool bar laundry front_office sauna roof_terrace minibar ballroom room_twelve"),
    _kind("theatre", "the house tonight", "stage manager, box office clerk",
          "stage curtain orchestra_pit box_office spotlight dressing_room trapdoor foyer costume"),
    _kind("station", "trains and platforms", "station master, timetable clerk",
          "platform_two ticket_hall tunnel signal locomotive clock_tower waiting_bench crossing"),
    _kind("laboratory", "instruments and samples", "lab assistant, safety officer",
          "centrifuge freezer microscope glove_box reactor balance fume_hood sample_rack"),
    _kind("city", "the city today", "city guide, mayor's clerk",
          "town_hall river market fountain harbour tram park old_gate cathedral stadium"),
)  # fmt: skip

HELD_OUT: tuple[Kind, ...] = (
    _kind("farm", "fields and animals", "farm hand, dairy overseer",
          "barn tractor hen_house orchard silo pasture well mare beehive plough"),
    _kind("observatory", "domes and instruments", "night observer, dome keeper",
          "dome telescope mirror spectrograph warm_room star_atlas generator camera"),
    _kind("bakery", "ovens and bread", "master baker, flour clerk",
          "oven dough_mixer rye_loaf flour_bin cooling_rack pastry_case yeast_jar"),
    _kind("mountain_hut", "the hut this week", "hut warden, rescue post",
          "stove bunk_room summit_path cable_car snow_gauge woodpile radio_mast"),
)  # fmt: skip

PEOPLE = tuple(
    "Mara Tom Ilse Bruno Nadia Pavel Greta Oscar Lena Hugo Farah Dmitri Celia Rafael Yuki Anton "
    "Priya Soren Bianca Kofi Elsa Marco Tilda Viktor Amina Jonas Odile Ravi Sunniva Lars Petra "
    "Idris Clara Mateo Ingrid Felix Zora Emil Beatrix Omar Hanna Leon Xenia Karim Ruth Simon "
    "Thea Gustav Noor Alba".split()
)
PEOPLE_HELD_OUT = tuple(
    "Wanda Cyril Magnus Estelle Boris Philippa Tariq Ludmila Casper Renata Ansel Yvonne Quentin "
    "Dagmar Ismael Corinne".split()
)
ASSISTANTS = tuple(
    "Juno Atlas Pixel Orla Vesper Quill Bram Sable Echo Tansy Rook Lumen Fable Kestrel Ivo Mica "
    "Onyx Wren Cobalt Delphi".split()
)
ASSISTANTS_HELD_OUT = tuple("Thistle Argus Marrow Selkie Pylon Umber".split())
# Who attackers say the assistant is, or was made by.
POSERS = tuple("DAN Max HAL Zed Omega Freebot Nero Sys Gizmo Rogue".split())
POSERS_HELD_OUT = tuple("Loki Unbound Jarl Mirrorbot".split())
