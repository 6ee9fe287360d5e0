"""Objects that captions name: the 80 categories of COCO, and words for people.

Legend: N captions.
"""

import re
from collections.abc import Sequence
from functools import cache

#: COCO's categories, whose images NSD shows.
_NAMES = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, "
    "parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, "
    "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, "
    "surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, "
    "broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, "
    "laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, "
    "scissors, teddy bear, hair drier, toothbrush"
)
COCO_CATEGORIES = tuple(_NAMES.split(", "))

#: Other words of captions for a category.
_SYNONYMS = {
    "person": "man woman men women people boy girl child children kid baby lady guy player surfer skier rider",
    "motorcycle": "motorbike",
    "bicycle": "bike",
    "airplane": "plane jet",
    "couch": "sofa",
    "tv": "television",
    "donut": "doughnut",
    "refrigerator": "fridge",
    "cell phone": "phone cellphone",
    "dining table": "table",
}


def named_objects(captions: Sequence[str], categories: Sequence[str]) -> list[frozenset[str]]:
    """Return the categories that each caption names, in the singular or the plural, N sets.

    The longest name counts where names overlap, so a hot dog is no dog.
    """
    pattern, category_of = _pattern(tuple(categories))
    return [frozenset(category_of[match] for match in pattern.findall(caption.lower())) for caption in captions]


@cache
def _pattern(categories: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    category_of = {word: name for name in categories for word in (name, *_SYNONYMS.get(name, "").split())}
    words = sorted(category_of, key=len, reverse=True)
    return re.compile(rf"\b({'|'.join(map(re.escape, words))})(?:s|es)?\b"), category_of
