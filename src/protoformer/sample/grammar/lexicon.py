"""The words of the sample, and how they are related: kinds, synonyms, opposites."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """An action with a second wording of the same meaning, and (by name) its opposite."""

    base: str
    past: str
    participle: str
    other: tuple[str, str, str]  # base, past, participle of the synonym
    opposite: str


KINDS = {  # a noun's kind is what every one of them is
    "person": "doctor teacher farmer painter singer lawyer nurse baker pilot sailor judge guard writer cook driver actor",
    "child": "boy girl pupil toddler",
    "animal": "dog horse fox goat monkey bear",
    "vehicle": "car truck bicycle boat wagon sledge",
    "instrument": "guitar violin drum flute trumpet",
    "fruit": "apple pear orange plum melon",
    "tool": "hammer saw ladder shovel knife rope",
    "garment": "coat hat shirt scarf glove",
    "furnishing": "chair table bench lamp mirror carpet",
}
KIND = {noun: kind for kind, nouns in KINDS.items() for noun in nouns.split()}
AGENTS = [noun for noun, kind in KIND.items() if kind in ("person", "child", "animal")]
THINGS = [noun for noun in KIND if noun not in AGENTS]

VERBS = {
    verb.base: verb
    for verb in (
        Verb("buy", "bought", "bought", ("purchase", "purchased", "purchased"), "sell"),
        Verb("sell", "sold", "sold", ("trade", "traded", "traded"), "buy"),
        Verb("find", "found", "found", ("discover", "discovered", "discovered"), "lose"),
        Verb("lose", "lost", "lost", ("misplace", "misplaced", "misplaced"), "find"),
        Verb("repair", "repaired", "repaired", ("mend", "mended", "mended"), "damage"),
        Verb("damage", "damaged", "damaged", ("wreck", "wrecked", "wrecked"), "repair"),
        Verb("push", "pushed", "pushed", ("shove", "shoved", "shoved"), "pull"),
        Verb("pull", "pulled", "pulled", ("drag", "dragged", "dragged"), "push"),
        Verb("lift", "lifted", "lifted", ("raise", "raised", "raised"), "drop"),
        Verb("drop", "dropped", "dropped", ("lower", "lowered", "lowered"), "lift"),
    )
}

OPPOSITES = {  # of whoever acts, and of what is acted upon
    "agent": "tall/short happy/sad rich/poor quiet/loud kind/cruel brave/timid",
    "thing": "big/small new/old heavy/light cheap/costly bright/dark soft/hard",
}
PAIRS = {role: [tuple(pair.split("/")) for pair in pairs.split()] for role, pairs in OPPOSITES.items()}
ADJECTIVES = {role: [word for pair in pairs for word in pair] for role, pairs in PAIRS.items()}
OPPOSITE = {word: other for pairs in PAIRS.values() for a, b in pairs for word, other in ((a, b), (b, a))}

PLACES = {  # by genre, as MNLI's matched and mismatched sets differ
    "town": ["in the garden", "at the station", "in the kitchen", "at the market"],
    "country": ["near the river", "in the barn", "by the lake", "on the hill"],
}
TIMES = {
    "town": ["yesterday", "on monday", "last week", "after lunch"],
    "country": ["at night", "before dawn", "in winter", "at noon"],
}
WHERE = [place for places in PLACES.values() for place in places]  # of every genre
WHEN = [time for times in TIMES.values() for time in times]
MANNERS = ["slowly", "carefully", "quickly", "proudly"]

PRAISED = ["film", "story", "song", "play", "novel", "concert", "painting", "speech", "show", "poem"]
ASPECTS = ["plot", "music", "ending", "cast", "style", "humour"]
GOOD = [
    "wonderful",
    "brilliant",
    "charming",
    "delightful",
    "superb",
    "lovely",
    "moving",
    "gripping",
    "fresh",
    "elegant",
]
BAD = ["awful", "boring", "dreadful", "clumsy", "tedious", "bland", "shallow", "painful", "stale", "messy"]
DEGREES = ["", "very ", "truly ", "rather ", "really "]
CONTAINERS = ["box", "bag", "suitcase", "drawer", "basket", "trunk", "crate", "chest"]
