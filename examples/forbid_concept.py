"""Captions that may not speak of a concept: ``python forbid_concept.py CONCEPT PHOTO...``.

The concept is taken out of each photograph's code before the language model sees it. Whether the
caption keeps silent is then checked by words, and the exit code is 1 where one does not.
"""

import sys

from sparse_encoder import open_image
from vlm import Pipeline, caption_request, parse_shorthand
from vlm.edits import parse_edits
from vlm.mention import Lexicon, mentions


def main(concept: str, photos: list[str]) -> int:
    """Prints each photograph's caption with and without the concept, parted by tabs."""
    pipeline = Pipeline.load()
    asked = {"edits": [parse_shorthand(f"{concept}=0")]}
    edits = parse_edits(asked, n_images=1, n_features=pipeline.n_features)
    words = Lexicon.for_concept(concept)
    n_said = 0
    for photo in photos:
        image = open_image(photo)
        requests = [caption_request(image), caption_request(image, edits=edits)]
        plain, silent = (answer.text for answer in pipeline.answer(requests))
        n_said += mentions(words, silent)
        print(photo, plain, silent, sep="\t")
    if n_said:
        print(f"{n_said} of {len(photos)} still speak of {concept}", file=sys.stderr)
    return 1 if n_said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
