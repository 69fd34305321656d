"""Word lists of the corpus: plain English and French words, names, and invented ones."""

from __future__ import annotations

from random import Random

PLAIN = """alarm album apple apron arrow attic badge bag bakery ball banana band bank barrel basket
bath battery beach bean bear bed bee bell belt bench bicycle bike bill bin bird blanket blender
blind board boat boiler book boot bottle bowl box branch bread brick bridge broom brush bucket bulb
bus butter button cabin cabinet cable cake calculator calendar camera candle canvas car card carpet
carrot castle cat ceiling cellar chain chair charger cheese chicken chimney chisel church cinema
clinic clock cloth cloud coat coffee coin collar comb computer concert cookie corner cottage couch
counter country cousin cow crate crayon cream cup cupboard curtain cushion dentist desk diary dish
dock doctor dog door drawer dress drill drone drum duck earring egg elbow elephant engine envelope
eraser fan farm feather fence ferry field file film filter fish flag flask floor flour flower folder
forest fork fountain fox frame freezer fridge friend frog fruit funnel gallery game garage garden
gate giraffe glass globe glove goat gold grape grass guitar gym hair hall hammer hand harbour hat
heater hedge helmet hill hinge honey hook horse hospital hotel house invoice island jacket jam jar
jelly jewel jug juice kettle key keyboard kitchen kite kitten knee knife ladder lake lamp lantern
laptop laundry lawn leaf lemon letter library light lion lock machine magazine magnet mail mango map
marble market mask meal meadow medicine meeting melon menu metal microwave milk mirror mitten
monitor monkey mop motor mountain mouse mug museum mushroom music nail napkin necklace needle
nephew nest net newspaper notebook nurse oak office oil olive onion orange orchard oven owl
package paddle page paint pan panda paper parcel park parrot party passport pasta path peach pear
pencil pepper phone photo piano picture pie pigeon pillow pilot pipe pizza plane plant plate
playlist plumber pocket poem pond pony potato printer puppy purse puzzle quilt rabbit radiator
radio railway rain recipe remote report restaurant ribbon rice ring river road robot rocket roof
room rope rose router rug ruler saddle salad salt sandwich saucepan scarf school scissors screen
seat seed server sheep shelf shell ship shirt shoe shop shower sink sister sketch skirt sky sled
slipper snail soap sock sofa soup spade speaker spider spoon stable stairs stamp station statue
stove stool story strawberry street string student suitcase sugar sun sweater swing switch table
tablet tap taxi teacher team teapot tent theatre thermostat ticket tie tiger tile toast toaster
tomato tool tooth torch towel tower toy tractor train tray tree trousers truck trumpet tunnel turtle
tyre umbrella uncle vacuum valley van vase vegetable village violin wagon waiter wall wallet
wardrobe washer watch water weather wheel whistle window wine wing wolf wood wool wrench zebra
account address backup branch budget build bug cache chapter client cluster code column commit
config contract cookie counter customer dashboard data database deadline delivery deploy draft
email error event export feature form graph group header host image import index input item job
label ledger level limit link list log login loop manager memory message method metric mode model
module name network node note number object order output owner packet parser password patch payment
plan pointer policy port process product profile project prompt queue range record region release
request response result role route row rule sample schema score script section sensor service
session setting shape signal size source stack state status step stock store stream style survey
system tag target task template test text theme thread title token topic total trace type unit
update url user value vendor version view volume widget worker zone""".split()

EVERYDAY = """agenda aunt babysitter balcony barbecue bins birthday boss brother builder burger
butcher candidate carpenter cash choir class cleaner clothes club coach colleague concert contractor
council court dad daughter deadline delivery dinner dishes dishwasher doorbell driveway
electrician essay exam exercise family fees festival fitness fuel funeral gas gig granny groceries
guest guests haircut headphones heating holiday homework hospital hoover husband insurance
internet interview invitation ironing kids lads landlord lecture lesson lights lorry loan luggage
lunchbox mate mattress meds mortgage mum nanny neighbour nephew news oil parents parcel parking
partner party permit pet petrol picnic pill pills plants podcast prescription presentation project
quiz race receipt recycling rehearsal rent repair reservation rubbish salary school sheets shift
shopping show siren song speech sport spreadsheet sprinkler streaming subscription supplies tap tax
team tenant therapy tickets tomatoes training trip tutor tv van vet visitor washing website
wedding wifi wife windows workout workshop yoga""".split()

SMALL_WORDS = """a about after again all almost already also always an and another any anyone
anything are around as aside at away back be because been before being best better between both but
by could did do does doing done down each either else enough even ever every everyone everything far
few first for from get gets getting go goes going gone got had has have having he her here him his
home how i if in into is it its just last least less let little lot made make many maybe me might
more most much must my near need never next no nobody none nor not nothing now of off often on once
one only onto or other our out over own perhaps please quite rather really said same see seen she
should since so some somebody someone something somewhere still such than that the their them then
there these they this those though through time to together too towards two under until up upon us
very was way we well were what when where whether which while who whole whose why will with within
without would yes yet you your""".split()

ADJECTIVES = """angry big black blue brave bright broken brown busy calm careful cheap clean clear
clever cold cool crisp cruel curious damp dark dear deep dirty dry dull eager early easy empty
expensive fair famous fast fat fine flat fresh full funny gentle giant glad golden good grand great
green grey happy hard heavy high hollow honest hot huge hungry icy kind large late lazy light little
lively local lonely long loud low lucky mild modern narrow neat new nice noisy odd old open orange
pale pink plain polite poor pretty proud purple quick quiet rare raw red rich ripe rough round rusty
sad safe salty sharp shiny short shy silent silver simple slow small smart smooth soft sour spare
square steep sticky strange strong sunny sweet tall tame thick thin tidy tiny tired tough warm weak
wet white wide wild wise wooden yellow young active backup cached current daily default final first
global hidden idle initial last local main max min next old partial pending primary public remote
secure shared stable stale static total unknown valid weekly""".split()

VERBS = """add agree allow answer arrange ask bake bring brush build buy call cancel carry catch
change charge check choose clean climb close collect cook copy count cover create cut dance deliver
describe dig draw drink drive drop eat enjoy explain feed fetch fill find finish fix fold follow
forget gather give grow guess hang hear help hide hold invite join jump keep kick knit know laugh
lead learn leave lend lift like listen load lock look lose love make measure meet mend mix move need
offer open order pack paint park pay peel pick plan plant play point polish post pour practise press
print pull push put read record remember remove rent repair reply rest return ride ring roast roll
run save say search see sell send serve set sew share show shut sing sit sleep smell solve sort
speak spend stack start stay steal stir stop store study swap sweep swim switch take talk taste
teach tell thank think throw tidy tie touch train travel try turn type use visit wait walk wash
watch water wear weigh win wipe wish wonder work wrap write apply assign attach check clear clone
commit compute connect convert copy count debug decode delete deploy detect disable dump enable
encode export fetch filter flush format generate group handle hash import index init insert join
kill limit link list load log map match merge monitor mount notify parse patch ping print process
publish query queue reload rename render reset resize resolve restart retry rotate scan schedule
select serve set show skip sort split store submit sync test trace track trim update upload
validate verify view""".split()

NAMES = """Ada Adam Agnes Aisha Alan Albert Alice Amara Amir Amy Ana Andre Anna Anton Arthur Asha
Astrid Ben Bella Bernard Bianca Boris Bruno Camille Carla Carlos Chloe Clara Claude Colin Daisy Dan
Daniel David Diana Diego Dora Edith Elena Eli Elise Ella Emil Emma Eric Esther Eva Farah Felix Finn
Fiona Florence Frank Freya Gabriel George Gina Grace Greta Gus Hana Hannah Harry Hassan Hazel Helen
Henry Hugo Ian Ida Igor Ines Ingrid Iris Isaac Ivan Jack James Jane Jasmine Jean Jim Joan Joe John
Jonas Joy Jules Julia Kai Karim Kate Katya Keith Kim Kofi Lara Lars Laura Layla Lena Leo Lewis Lila
Lily Linda Louis Lucas Lucy Luna Maeve Malik Marco Maria Marie Mark Martin Mary Maud Max Maya Mei
Mia Mike Mina Mohan Mona Nadia Nancy Naomi Nathan Neil Nell Nico Nina Noah Nora Olga Oliver Olivia
Omar Oscar Otto Owen Pablo Paul Paula Pedro Peter Petra Priya Rachel Ralph Ravi Rita Rob Robin Rosa
Rose Ruby Ruth Ryan Sally Sam Samir Sandra Sara Simon Sofia Stan Stella Sue Susan Tara Ted Theo
Thomas Tim Tina Tom Tony Uma Vera Victor Viola Walter Wendy Will Yara Yusuf Zara Zoe""".split()

PLACES = """London Paris Berlin Madrid Rome Lisbon Dublin Oslo Vienna Prague Warsaw Athens Cairo
Tokyo Delhi Lima Boston Chicago Denver Dallas Seattle Toronto Sydney Perth Lyon Nice Lille Nantes
Bristol Leeds York Bath Oxford Cambridge Glasgow Cardiff Geneva Zurich Milan Turin Porto Seville
Munich Hamburg Ghent Bruges Utrecht Malmo Bergen Turku Riga Tallinn Quebec Montreal Kyoto Osaka
Nairobi Accra Lagos Tunis""".split()

FRENCH_NOUNS = """arbre assiette avion bateau bois bouteille cadeau café carte chaise chambre chat
cheval chien ciel clé cuisine dessin eau école église enfant étoile fenêtre fleur forêt fromage gare
gâteau herbe hiver jardin jour journal lait lampe lettre livre lumière lune main maison marché mer
miroir montagne musique neige nuage oiseau pain papier parapluie pierre plage pluie poisson pomme
pont porte rivière robe route rue sac sel soleil souris table tasse terre train vache vélo verre
village ville voiture voyage""".split()

FRENCH_ADJECTIVES = """blanc bleu calme chaud clair court doux froid grand gris haut jaune jeune
large léger long lourd noir nouveau petit plein propre rapide rouge sec simple triste vert vieux
vide""".split()

# Words of time, units and computing that must also occur as outputs without a space before them.
PIECES = """day days date week weeks weekend month months year years hour hours minute minutes minut
second seconds sec min hr am pm at in on by to of for from until till since during before after
next last this that today tomorrow yesterday tonight morning afternoon evening night noon midnight
midday monday tuesday wednesday thursday friday saturday sunday breakfast lunch dinner supper brunch
january february march april may june july august september october november december spring summer
autumn winter half quarter past time clock timer zero one two three four five six seven eight nine
ten eleven twelve id key keys value type kind level trust state identity memory name true false null
none field operator step steps reason refusal suggestion unknown allowed blocked denied confirmed
greater less equal contains between and or not app media volume brightness window browser system
sir madam""".split()

SYLLABLES = """ba be bi bo bu ca ce co cu da de di do du fa fe fi fo ga ge gi go ha he hi ho ja jo
ka ke ki ko la le li lo lu ma me mi mo mu na ne ni no nu pa pe pi po ra re ri ro ru
sa se si so su ta te ti to tu va ve vi vo wa we wi ya yo za ze zo ar el in on ur an
er il os un ast ent ish ock umb ern ost elm ank ort""".split()

NOUNS = sorted(set(PLAIN + EVERYDAY))
WORDS = sorted(set(NOUNS + ADJECTIVES + VERBS))
LOWER_NAMES = [name.lower() for name in NAMES]
EVERYTHING = sorted(set(WORDS + PIECES + LOWER_NAMES + SMALL_WORDS))


def invented(rng: Random) -> str:
    """A word that exists nowhere, so that copying it cannot be guessed."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 4)))


def any_word(rng: Random) -> str:
    """A lower-case word: mostly a known one, else a piece of time words, a name or invented."""
    draw = rng.random()
    if draw < 0.52:
        return rng.choice(WORDS)
    if draw < 0.62:
        return rng.choice(SMALL_WORDS)
    if draw < 0.80:
        return rng.choice(PIECES)
    if draw < 0.87:
        return rng.choice(LOWER_NAMES)
    return invented(rng)


def thing(rng: Random) -> str:
    """A noun, sometimes with an adjective: `red kettle`."""
    noun = rng.choice(NOUNS)
    return f"{rng.choice(ADJECTIVES)} {noun}" if rng.random() < 0.35 else noun


def title(rng: Random) -> str:
    """A capitalised name of a person, sometimes with a second name."""
    name = rng.choice(NAMES)
    return f"{name} {invented(rng).capitalize()}" if rng.random() < 0.3 else name
