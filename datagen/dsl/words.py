"""What the offline generator's domains are made of, in English and French.

Entities and fields are combined at random into schemas, so that a schema of the training data never
has the words of a held-out one: each table has a part for training and one that is held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entity:
    """Things that are asked for.

    Attributes:
        name: of the domain, "work orders".
        one: in the singular.
        french: in the plural, without an article.
        feminine: in French.
        groups: which fields suit them.
    """

    name: str
    one: str
    french: str
    feminine: bool
    groups: frozenset[str]


@dataclass(frozen=True)
class Value:
    """A member of a closed set: as a constant, in English and in French.

    Attributes:
        adjective: English puts it before the noun ("open tickets").
    """

    const: str
    english: str
    french: str
    adjective: bool = False


@dataclass(frozen=True)
class Kind:
    """A field that domains may have.

    Attributes:
        names: of which one becomes the constant.
        type: "enum", "text", "number", "date" or "boolean".
        english: "due date"; of a boolean the adjective, "paid".
        french: with its article, "la date limite"; of a boolean the masculine singular, "payé".
        groups: of entities that may have it; empty for all.
        values: of an enum.
        pool: of a text, the name of its pool in POOLS.
        low, high, step: of a number.
        unit, french_unit: said after a number.
    """

    names: tuple[str, ...]
    type: str
    english: str
    french: str
    groups: frozenset[str] = frozenset()
    values: tuple[Value, ...] = ()
    pool: str = ""
    low: float = 0
    high: float = 0
    step: float = 1
    unit: str = ""
    french_unit: str = ""


def _rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


def _entities(table: str) -> tuple[Entity, ...]:
    return tuple(
        Entity(many, one, french, gender == "f", frozenset(groups.split()))
        for many, one, french, gender, groups in _rows(table)
    )


def _kind(kind: str, names: str, english: str, french: str, groups: str, **more: Any) -> Kind:
    """What all tables of kinds begin with: names | english | french | groups."""
    return Kind(tuple(names.split()), kind, english, french, frozenset(groups.split()), **more)


def _enums(table: str) -> tuple[Kind, ...]:
    """... | const=french, ... ; a * marks an adjective, and a const with another English name is
    const:english."""
    return tuple(
        _kind("enum", *row, values=tuple(_value(text.strip()) for text in listed.split(",")))
        for *row, listed in _rows(table)
    )


def _value(text: str) -> Value:
    named, french = text.split("=")
    adjective = named.endswith("*")
    const, _, english = named.rstrip("*").partition(":")
    return Value(const, english or const.replace("_", " "), french, adjective)


def _texts(table: str) -> tuple[Kind, ...]:
    """... | pool"""
    return tuple(_kind("text", *row, pool=pool) for *row, pool in _rows(table))


def _numbers(table: str) -> tuple[Kind, ...]:
    """... | low high step | unit | French unit"""
    found: list[Kind] = []
    for *row, span, unit, french_unit in _rows(table):
        low, high, step = map(float, span.split())
        more = {"low": low, "high": high, "step": step, "unit": unit, "french_unit": french_unit}
        found.append(_kind("number", *row, **more))
    return tuple(found)


def _others(kind: str, table: str) -> tuple[Kind, ...]:
    return tuple(_kind(kind, *row) for row in _rows(table))


# many | one | French | gender | groups
ENTITIES = _entities(
    """
    tasks | task | tâches | f | work
    tickets | ticket | tickets | m | work trade
    projects | project | projets | m | work money
    invoices | invoice | factures | f | trade money
    orders | order | commandes | f | trade money
    contracts | contract | contrats | m | trade money
    meetings | meeting | réunions | f | event work
    conferences | conference | conférences | f | event place
    workshops | workshop | ateliers | m | event place
    trips | trip | voyages | m | event travel
    flights | flight | vols | m | travel
    hotels | hotel | hôtels | m | place travel
    apartments | apartment | appartements | m | place home
    houses | house | maisons | f | place home
    offices | office | bureaux | m | place home
    restaurants | restaurant | restaurants | m | place food
    recipes | recipe | recettes | f | food
    wines | wine | vins | m | food goods
    cheeses | cheese | fromages | m | food goods
    cars | car | voitures | f | vehicle goods
    vans | van | camionnettes | f | vehicle goods
    motorbikes | motorbike | motos | f | vehicle goods
    bicycles | bicycle | vélos | m | goods vehicle
    laptops | laptop | ordinateurs | m | goods
    phones | phone | téléphones | m | goods
    chairs | chair | chaises | f | goods home
    lamps | lamp | lampes | f | goods home
    books | book | livres | m | media goods
    films | film | films | m | media
    songs | song | chansons | f | media
    articles | article | articles | m | media work
    photos | photo | photos | f | media
    podcasts | podcast | podcasts | m | media
    courses | course | cours | m | school
    exams | exam | examens | m | school event
    students | student | étudiants | m | people school
    teachers | teacher | enseignants | m | people school
    employees | employee | employés | m | people work
    candidates | candidate | candidats | m | people work
    customers | customer | clients | m | people trade
    members | member | adhérents | m | people
    patients | patient | patients | m | people health
    appointments | appointment | rendez-vous | m | health event
    prescriptions | prescription | ordonnances | f | health
    donations | donation | dons | m | money
    loans | loan | prêts | m | money
    payments | payment | paiements | m | money trade
    parcels | parcel | colis | m | trade travel
    shipments | shipment | expéditions | f | trade travel
    machines | machine | machines | f | goods work
    repairs | repair | réparations | f | work trade
    inspections | inspection | inspections | f | work event
    plants | plant | plantes | f | nature
    gardens | garden | jardins | m | nature place
    hikes | hike | randonnées | f | nature travel event
    campsites | campsite | campings | m | nature place travel
    pets | pet | animaux | m | nature
    incidents | incident | incidents | m | work
    leads | lead | prospects | m | trade people
    messages | message | messages | m | work
    """
)
HELD_OUT_ENTITIES = _entities(
    """
    boats | boat | bateaux | m | vehicle travel
    concerts | concert | concerts | m | event place
    fossils | fossil | fossiles | m | nature goods
    greenhouses | greenhouse | serres | f | nature place
    permits | permit | permis | m | work trade
    puppets | puppet | marionnettes | f | goods media
    lighthouses | lighthouse | phares | m | place
    choirs | choir | chorales | f | people event
    drones | drone | drones | m | vehicle goods
    theses | thesis | thèses | f | school media
    """
)

_ENUMS = _enums(
    """
    status state | status | le statut | work trade event health | open*=ouvert, closed*=fermé, pending*=en attente, blocked*=bloqué, archived*=archivé, cancelled*=annulé, in_progress=en cours, done=terminé
    priority urgency | priority | la priorité | work health | low=basse, normal=normale, high=haute, urgent*=urgente, critical*=critique
    color colour paint | colour | la couleur | goods vehicle home | red*=rouge, blue*=bleue, green*=verte, black*=noire, white*=blanche, yellow*=jaune, grey*=grise
    size | size | la taille | goods home nature | small*=petite, medium=moyenne, large*=grande, huge*=immense
    city town location | city | la ville | place event people trade travel work | paris:Paris=Paris, lyon:Lyon=Lyon, lille:Lille=Lille, geneva:Geneva=Genève, london:London=Londres, brussels:Brussels=Bruxelles, berlin:Berlin=Berlin, madrid:Madrid=Madrid, montreal:Montreal=Montréal
    country | country | le pays | travel trade people food | france:France=la France, spain:Spain=l'Espagne, italy:Italy=l'Italie, germany:Germany=l'Allemagne, japan:Japan=le Japon, canada:Canada=le Canada, brazil:Brazil=le Brésil
    language lang | language | la langue | media school people event | english:English*=anglaise, french:French*=française, german:German*=allemande, spanish:Spanish*=espagnole, italian:Italian*=italienne, arabic:Arabic*=arabe
    team unit | team | l'équipe | work people trade | sales=ventes, marketing=marketing, support=support, finance=finances, legal=juridique, research=recherche, logistics=logistique
    material fabric | material | la matière | goods home | wood=bois, steel=acier, glass=verre, leather=cuir, cotton=coton, plastic=plastique, copper=cuivre
    condition wear | condition | l'état | goods vehicle home | new*=neuf, used*=d'occasion, damaged*=endommagé, refurbished*=reconditionné
    channel medium | channel | le canal | trade work people | email=courriel, phone=téléphone, chat=messagerie, post=courrier, web=web
    payment_method payment | payment method | le mode de paiement | trade money travel | card=carte, cash=espèces, transfer=virement, cheque=chèque
    level grade | level | le niveau | school people nature event | beginner=débutant, intermediate=intermédiaire, advanced*=avancé, expert=expert
    season | season | la saison | nature travel food event | spring=printemps, summer=été, autumn=automne, winter=hiver
    format | format | le format | media school event | paper=papier, audio=audio, video=vidéo, online*=en ligne
    risk risk_level | risk | le risque | money health work | minor=mineur, moderate=modéré, serious=grave, extreme=extrême
    fuel energy | fuel | le carburant | vehicle | petrol=essence, diesel=diesel, electric*=électrique, hybrid*=hybride
    diet | diet | le régime | food people | vegetarian*=végétarien, vegan*=végétalien, halal=halal, kosher=casher, gluten_free=sans gluten
    cuisine | cuisine | la cuisine | food | thai:Thai*=thaïe, indian:Indian*=indienne, mexican:Mexican*=mexicaine, greek:Greek*=grecque, lebanese:Lebanese*=libanaise
    genre style | genre | le genre | media | drama=drame, comedy=comédie, thriller=policier, documentary=documentaire, romance=romance, history=histoire
    visibility access | visibility | la visibilité | media work event | public*=publique, private*=privée, internal*=interne, secret*=secrète
    plan subscription | plan | la formule | people trade media | free=gratuite, basic=de base, premium=premium, family=familiale
    ward department | department | le service | health | cardiology=cardiologie, radiology=radiologie, surgery=chirurgie, paediatrics=pédiatrie, emergency=urgences
    species animal | species | l'espèce | nature | dog=chien, cat=chat, horse=cheval, rabbit=lapin, parrot=perroquet
    transport carrier_mode | transport | le transport | travel trade | train=train, plane=avion, ship=navire, lorry=camion, bus=bus
    subject discipline | subject | la matière | school | maths=mathématiques, physics=physique, music=musique, geography=géographie, biology=biologie
    currency | currency | la devise | money | euro=euro, dollar=dollar, pound=livre, yen=yen, franc=franc
    region zone | region | la région | place nature trade | north=nord, south=sud, east=est, west=ouest, coast=côte
    """  # noqa: E501
)
_HELD_OUT_ENUMS = _enums(
    """
    severity | severity | la gravité | work health event vehicle trade | trivial*=insignifiante, mild*=légère, severe*=sévère, fatal*=mortelle
    phase stage | phase | la phase | work school trade event media | planning=planification, review=relecture, testing=essai, delivery=livraison
    shape | shape | la forme | goods nature vehicle | round*=ronde, square*=carrée, oval*=ovale, flat*=plate
    mood tone | mood | l'ambiance | event media place people | calm*=calme, festive*=festive, solemn*=solennelle, tense*=tendue
    terrain ground | terrain | le terrain | nature place travel | sand=sable, rock=roche, clay=argile, marsh=marais
    origin source | origin | l'origine | goods trade nature media | local*=locale, imported*=importée, donated*=donnée, found*=trouvée
    habitat area | habitat | l'habitat | nature place vehicle | forest=forêt, desert=désert, lake=lac, mountain=montagne
    """  # noqa: E501
)
_TEXTS = _texts(
    """
    owner assignee | owner | le responsable | work trade goods place nature | people
    customer client | customer | le client | trade money travel | people
    author writer | author | l'auteur | media school | people
    name full_name | name | le nom | people health | people
    doctor physician | doctor | le médecin | health | people
    guide host | guide | le guide | travel nature event | people
    title subject_line | title | le titre | work media event school | topics
    tag label | tag | l'étiquette | work media goods | topics
    reference ref code | reference | la référence | trade money goods work travel | codes
    supplier vendor | supplier | le fournisseur | trade goods food money | firms
    employer company | company | l'entreprise | people work | firms
    street address | street | la rue | place home people | streets
    """
)
_HELD_OUT_TEXTS = _texts(
    """
    brand maker | brand | la marque | vehicle goods media | firms
    captain leader | captain | le capitaine | vehicle people event travel | people
    motto slogan | motto | la devise | people place event school media | topics
    plate serial | plate | la plaque | vehicle goods nature work trade | codes
    """
)
_NUMBERS = _numbers(
    """
    price cost | price | le prix | goods trade food travel home event vehicle | 5 900 5 | euros | euros
    amount total | amount | le montant | money trade | 50 9000 50 | euros | euros
    budget | budget | le budget | work event money | 500 9000 100 | euros | euros
    weight mass | weight | le poids | goods trade nature | 1 80 1 | kg | kg
    age years | age | l'âge | people nature health | 1 90 1 | years | ans
    capacity seats | capacity | la capacité | place event vehicle | 2 400 2 | people | personnes
    rating score | rating | la note | place food media goods | 1 9 0.5 | |
    distance length_km | distance | la distance | travel nature | 2 600 2 | km | km
    duration minutes | duration | la durée | media event food school travel work | 5 240 5 | minutes | minutes
    stock units | stock | le stock | goods food | 1 500 1 | |
    pages page_count | page count | le nombre de pages | media school | 10 900 10 | pages | pages
    rooms room_count | number of rooms | le nombre de pièces | home place | 1 12 1 | |
    discount rebate | discount | la remise | trade goods food | 5 70 5 | percent | pour cent
    mileage odometer | mileage | le kilométrage | vehicle | 1000 90000 1000 | km | km
    attempts retries | number of attempts | le nombre d'essais | work school | 1 20 1 | |
    """  # noqa: E501
)
_HELD_OUT_NUMBERS = _numbers(
    """
    height altitude | height | la hauteur | place nature vehicle goods | 1 300 1 | metres | mètres
    speed pace | speed | la vitesse | vehicle travel | 5 200 5 | km/h | km/h
    audience attendance | audience | l'affluence | event people media place | 20 900 10 | people | personnes
    fee charge | fee | la redevance | trade work school goods | 5 400 5 | euros | euros
    """  # noqa: E501
)
_DATES = _others(
    "date",
    """
    due_date deadline | due date | l'échéance | work trade money school
    start_date begins | start date | la date de début | event travel school work
    delivery_date arrives | delivery date | la date de livraison | trade goods
    expiry_date expires | expiry date | la date d'expiration | food health goods money
    joined hired_on | joining date | la date d'arrivée | people
    published release_date | release date | la date de sortie | media
    checked last_check | last check | le dernier contrôle | vehicle home nature place
    """,
)
_HELD_OUT_DATES = _others(
    "date",
    """
    opening_day opens | opening day | le jour d'ouverture | place event trade work
    launch_day launched | launch day | le jour de lancement | vehicle media goods nature
    defended defence_date | defence date | la date de soutenance | school people
    """,
)
_BOOLEANS = _others(
    "boolean",
    """
    paid is_paid | paid | payé | trade money event
    insured has_insurance | insured | assuré | vehicle goods home travel
    verified is_verified | verified | vérifié | people work media money
    shipped sent | shipped | expédié | trade
    signed is_signed | signed | signé | work health school
    furnished has_furniture | furnished | meublé | home
    vaccinated vaccine | vaccinated | vacciné | nature health people
    recommended advised | recommended | recommandé | food media place travel
    booked reserved | booked | réservé | event travel place
    """,
)
_HELD_OUT_BOOLEANS = _others(
    "boolean",
    """
    certified has_certificate | certified | certifié | vehicle people work goods trade
    lit is_lit | lit | éclairé | place home nature event
    digitised scanned | digitised | numérisé | media school nature
    """,
)

KINDS = (*_ENUMS, *_TEXTS, *_NUMBERS, *_DATES, *_BOOLEANS)
HELD_OUT_KINDS = (
    *_HELD_OUT_ENUMS, *_HELD_OUT_TEXTS, *_HELD_OUT_NUMBERS, *_HELD_OUT_DATES, *_HELD_OUT_BOOLEANS
)  # fmt: skip

# name of a pool -> (for training, held out)
POOLS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "people": (
        [
            f"{first} {last}"
            for first in "Ada Bruno Chloé David Elsa Farid Grace Hugo Inès Jonas Karim Léa Marc "
            "Nadia Oscar Paula Quentin Rosa Samir Tessa".split()
            for last in "Adler Bernard Costa Dubois Evans Fischer Garnier Holt Ivanov Keller "
            "Lambert Moreau".split()
        ],
        [
            f"{first} {last}"
            for first in "Yusra Viggo Wanda Zoltan Ulrike Thibault".split()
            for last in "Oduya Peltier Quist Rasmus Szabo Tanaka".split()
        ],
    ),
    "topics": (
        "budget training privacy bridge harvest security migration travel kitchen energy roof "
        "design heating tax payroll website museum water forest music winter storage network "
        "insurance marketing robot history painting coffee sailing".split(),
        "volcano mosaic lantern parade glacier orchard telescope archive harbour comet".split(),
    ),
    "codes": (
        [f"{letters}-{number}" for letters in ("AB", "KX", "INV", "P", "ZR", "CMD")
         for number in range(1004, 9000, 333)],
        [f"{letters}-{number}" for letters in ("QT", "LUX", "W") for number in range(207, 900, 77)],
    ),
    "firms": (
        "Altavia Borealis Cormoran Delmas Estuaire Fontana Granit Helios Indigo Jasmin Kestrel "
        "Lumen Mistral Nordwind Opaline".split(),
        "Pelican Quartz Ravel Sirocco Tamarin Umbra".split(),
    ),
    "streets": (
        [f"{name} {kind}" for name in ("Mill", "Station", "Church", "Garden", "River", "Oak")
         for kind in ("Street", "Road", "Lane")],
        ["Anchor Quay", "Foundry Row", "Beacon Hill", "Orchard Close"],
    ),
}  # fmt: skip
