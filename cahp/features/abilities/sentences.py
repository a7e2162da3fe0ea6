"""Words and sentences of the items that are our own; none is of a data set."""

from __future__ import annotations

#: Names of people; each is a common English word of one or two tokens.
NAMES = ["Anna", "Peter", "Maria", "Thomas", "Laura", "David", "Emma", "Simon", "Julia", "Martin", "Clara", "Daniel"]
#: A fact about a person, the question about it in other words, and the values it may have.
FACTS = (
    ("{name} lives in {value}.", "The home of {name} is the city of", "Paris London Berlin Rome Madrid Tokyo Boston"),
    ("{name} drives a {value} car.", "The colour of {name}'s car is", "red blue green white black yellow brown grey"),
    ("{name} plays the {value}.", "The instrument of {name} is the", "piano guitar violin flute organ trumpet harp"),
    ("{name} keeps a {value} in the garden.", "The animal of {name} is a", "horse dog cat goat cow pig rabbit sheep"),
    ("{name} works as a {value}.", "By profession, {name} is a", "teacher doctor lawyer farmer baker nurse painter"),
    ("- {name}: {value}", "In this list, the day of {name} is", "Monday Tuesday Wednesday Thursday Friday Saturday"),
)
#: Filler sentences, which hold no fact.
FILLER = (
    "The road along the river is quiet in the morning.",
    "A light wind moves the leaves of the old trees.",
    "It rained last night, and the stones are still wet.",
    "Nobody is in a hurry, since it is a holiday.",
    "Boats lie at the bank and rock a little.",
    "Behind the bridge the path leads up a low hill.",
    "From there one can see the roofs of the village.",
    "Some shops open late at this time of the year.",
    "The bell of the church is heard from far away.",
    "Clouds pass slowly, and their shadows cross the fields.",
    "In the evening lamps are lit along the water.",
    "The mill has stood empty for many years.",
)
#: Words with different first letters, and their plurals.
NOUNS = {
    "apple": "apples",
    "bird": "birds",
    "chair": "chairs",
    "door": "doors",
    "engine": "engines",
    "flower": "flowers",
    "garden": "gardens",
    "house": "houses",
    "island": "islands",
    "king": "kings",
    "lamp": "lamps",
    "mountain": "mountains",
    "night": "nights",
    "ocean": "oceans",
    "picture": "pictures",
    "river": "rivers",
    "stone": "stones",
    "table": "tables",
    "village": "villages",
    "window": "windows",
}
#: Nouns for people and things, singular and plural, for sentences in which a verb agrees with the first noun.
THINGS = (
    ("key", "keys"),
    ("letter", "letters"),
    ("picture", "pictures"),
    ("road", "roads"),
    ("ship", "ships"),
    ("tree", "trees"),
)
PLACES = (("cabinet", "cabinets"), ("house", "houses"), ("town", "towns"), ("garden", "gardens"))
#: A person, the reflexive pronoun, and a wrong one.
PERSONS = (
    ("woman", "herself", "himself"),
    ("girl", "herself", "himself"),
    ("queen", "herself", "himself"),
    ("man", "himself", "herself"),
    ("boy", "himself", "herself"),
    ("king", "himself", "herself"),
    ("children", "themselves", "himself"),
    ("students", "themselves", "herself"),
)
OTHERS = ("teachers", "doctors", "neighbours", "guests")
#: Countries and their capitals.
CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "Greece": "Athens",
    "Austria": "Vienna",
    "Poland": "Warsaw",
    "Hungary": "Budapest",
    "Russia": "Moscow",
    "Ireland": "Dublin",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Finland": "Helsinki",
    "Denmark": "Copenhagen",
    "Belgium": "Brussels",
    "Turkey": "Ankara",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Thailand": "Bangkok",
    "Canada": "Ottawa",
    "Cuba": "Havana",
    "Peru": "Lima",
    "Argentina": "Buenos Aires",
    "Iraq": "Baghdad",
    "Iran": "Tehran",
    "Syria": "Damascus",
    "Ukraine": "Kyiv",
    "South Korea": "Seoul",
    "Indonesia": "Jakarta",
}
#: How a capital is asked for.
CAPITAL_QUESTIONS = (
    "The capital of {country} is the city of",
    "Question: What is the capital of {country}?\nAnswer:",
    "The government of {country} sits in its capital,",
)
#: Sentences in French, German and Spanish.
OTHER_LANGUAGES = (
    "Le matin, les enfants vont à l'école avec leurs amis.",
    "La petite maison se trouve près de la rivière.",
    "Nous avons mangé du pain et du fromage dans le jardin.",
    "Il fait froid en hiver, mais la neige est belle.",
    "Ma sœur lit un livre devant la fenêtre.",
    "Le train part de la gare à huit heures.",
    "Les oiseaux chantent dans les arbres au printemps.",
    "Je voudrais une tasse de café avec du lait.",
    "Le médecin parle avec la mère du garçon.",
    "On voit les montagnes depuis la terrasse de l'hôtel.",
    "Elle a perdu les clés de la voiture hier soir.",
    "Le vieux pêcheur connaît tous les bateaux du port.",
    "Am Morgen gehen die Kinder mit ihren Freunden zur Schule.",
    "Das kleine Haus steht in der Nähe des Flusses.",
    "Wir haben im Garten Brot und Käse gegessen.",
    "Im Winter ist es kalt, aber der Schnee ist schön.",
    "Meine Schwester liest ein Buch vor dem Fenster.",
    "Der Zug fährt um acht Uhr vom Bahnhof ab.",
    "Die Vögel singen im Frühling in den Bäumen.",
    "Ich möchte eine Tasse Kaffee mit Milch.",
    "Der Arzt spricht mit der Mutter des Jungen.",
    "Von der Terrasse des Hotels sieht man die Berge.",
    "Sie hat gestern Abend die Schlüssel des Autos verloren.",
    "Der alte Fischer kennt alle Boote im Hafen.",
    "Por la mañana los niños van a la escuela con sus amigos.",
    "La casa pequeña está cerca del río.",
    "Hemos comido pan y queso en el jardín.",
    "En invierno hace frío, pero la nieve es bonita.",
    "Mi hermana lee un libro delante de la ventana.",
    "El tren sale de la estación a las ocho.",
    "Los pájaros cantan en los árboles en primavera.",
    "Quisiera una taza de café con leche.",
    "El médico habla con la madre del niño.",
    "Desde la terraza del hotel se ven las montañas.",
    "Ella perdió ayer por la noche las llaves del coche.",
    "El viejo pescador conoce todos los barcos del puerto.",
)
