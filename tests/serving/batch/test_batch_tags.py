"""Answers as JSON of a schema, and where they go."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow.parquet
import pytest

from serving.batch.answers import answer_entry
from serving.batch.journal import Journal
from serving.batch.plan import PLAIN, Plan, Question, Steering, Tags
from serving.batch.result import Result
from serving.batch.run import Pace, caption_all
from serving.batch.sinks.parquet import ParquetParts
from serving.batch.sinks.sidecar import Sidecars, as_xmp
from serving.batch.sources import open_sources
from sparse_encoder.errors import SparsightError
from tests.tiny_model import png, tiny_pipeline
from vlm.edits import Edit

SCHEMA = {
    "type": "object",
    "properties": {
        "things": {"type": "array", "items": {"enum": ["cat", "dog"]}, "maxItems": 2},
        "place": {"enum": ["inside", "outside"]},
    },
    "required": ["things", "place"],
    "additionalProperties": False,
}
NAMES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
}


def test_tags_hold_to_the_schema_beside_captions_and_reach_every_sink(album: Path) -> None:
    for n in range(3):
        (album / f"{n}.png").write_bytes(png(n))
    less = Steering("less", (Edit("scale", feature=3, value=0.5),))
    plan = Plan("f" * 64, ("what?",), (PLAIN, less), 4, tags=Tags.of(SCHEMA, "which?"))
    with Journal("o.jsonl", plan) as journal:
        sinks = [ParquetParts("p", plan, journal), Sidecars("xmp")]
        sources, pace = open_sources(["album"]), Pace(2, 0)
        pipeline = tiny_pipeline()
        results = list(
            caption_all(sources, plan, pipeline, journal=journal, sinks=sinks, pace=pace)
        )
        for sink in sinks:
            sink.close()
        again = list(journal.good())
    assert [result.error for result in results] == [None] * 3
    for result, kept in zip(results, again, strict=True):
        assert kept.outputs == result.outputs
        tags = result.outputs["tags"]
        assert [(each["prompt"], each["steering"]) for each in tags] == [
            ("which?", "plain"),
            ("which?", "less"),
        ]
        for each in tags:
            assert set(each["json"]) == {"things", "place"}
            assert set(each["json"]["things"]) <= {"cat", "dog"}
        assert len(result.captions) == 2
        assert set(result.keywords) <= {"cat", "dog", "inside", "outside"}
        xmp = Path(f"{result.path}.xmp").read_text(encoding="utf-8")
        assert all(f"<rdf:li>{word}</rdf:li>" in xmp for word in result.keywords)
    rows = pyarrow.parquet.read_table("p").to_pylist()
    assert [json.loads(row["tags"][0]["json"]) for row in rows] == [
        result.outputs["tags"][0]["json"] for result in results
    ]


def test_tags_may_come_alone_and_a_file_of_other_tags_is_refused(album: Path) -> None:
    (album / "0.png").write_bytes(png(0))
    plan = Plan("f" * 64, (), tags=Tags.of(SCHEMA))
    assert not plan.is_simple
    with Journal("o.jsonl", plan) as journal:
        sources = open_sources(["album/0.png"])
        (result,) = caption_all(sources, plan, tiny_pipeline(), journal=journal, pace=Pace(1, 0))
    assert "captions" not in result.outputs and result.captions == []
    with pytest.raises(SparsightError, match="another tags"):
        Journal("o.jsonl", Plan("f" * 64, (), tags=Tags.of({"type": "object"})))


def test_json_that_was_cut_off_is_a_failure_and_not_half_an_answer() -> None:
    question = Question("which?", 5, "{}")
    with pytest.raises(SparsightError, match="ended at 5 tokens and is not whole"):
        answer_entry(question, "plain", '{"a": [1, 2', "length", None)
    with pytest.raises(SparsightError, match="ended early"):
        answer_entry(question, "plain", "", "stop", None)
    assert answer_entry(question, "plain", "[1]", "length", None)["json"] == [1]


@pytest.mark.parametrize("schema", [[1], "object", None, 3])
def test_what_is_no_schema_is_refused(schema: Any) -> None:
    with pytest.raises(SparsightError, match="a JSON schema is an object"):
        Tags.of(schema)


def test_keywords_are_the_texts_of_the_answers_each_once() -> None:
    found = {"a": ["cat", "dog\n cat", {"b": "cat"}], "n": 3, "x": None, "e": ""}
    assert Result("p", {"tags": [{"json": found}]}).keywords == ["cat", "dog cat"]


def test_a_sidecar_has_the_fields_of_iptc() -> None:
    packet = as_xmp(["A cat & a <dog>.", "A cat."], ["cat", "dog & co"])
    body = packet.split("\n", 1)[1].rsplit("\n", 2)[0]
    tree = ElementTree.fromstring(body)
    about = "rdf:RDF/rdf:Description"

    def texts(path: str) -> list[str | None]:
        return [found.text for found in tree.findall(f"{about}/{path}", NAMES)]

    assert texts("dc:description/rdf:Alt/rdf:li") == ["A cat & a <dog>.\nA cat."]
    assert texts("Iptc4xmpCore:AltTextAccessibility/rdf:Alt/rdf:li") == ["A cat & a <dog>."]
    assert texts("dc:subject/rdf:Bag/rdf:li") == ["cat", "dog & co"]
    assert texts("photoshop:CaptionWriter") == ["Sparsight"]
    assert "dc:description" not in as_xmp([], ["cat"])
