"""The client of the page: what it sends, what it makes of answers and of failures."""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from demo.client import Caption, DemoError, GatewayClient, data_uri

DOG_TO_CAT = [{"concept": "dog", "op": "ablate"}, {"concept": "cat", "op": "clamp", "value": 1.0}]


def answering(answer: Callable[[httpx.Request], httpx.Response]) -> GatewayClient:
    """A client whose gateway is a function."""
    client = GatewayClient("http://gateway")
    client._http = httpx.Client(base_url="http://gateway", transport=httpx.MockTransport(answer))
    return client


def model_and(answer: httpx.Response) -> GatewayClient:
    card = {"id": "fake", "steering": {"fingerprint": "f", "n_features": 8}}
    models = httpx.Response(200, json={"data": [card]})
    return answering(lambda request: models if request.method == "GET" else answer)


def test_the_model_is_the_one_that_the_gateway_serves(client: GatewayClient) -> None:
    model = client.model()
    assert (model.name, model.n_features, model.fingerprint) == ("fake", 8, "f" * 64)


def test_the_strongest_features_come_with_name_dose_and_share(
    client: GatewayClient, photo: Path
) -> None:
    first, second = client.activations(photo, top=2)
    assert (first["name"], first["p99"]) == ("cat", 2.0)
    assert first["share"] > second["share"]
    assert len(client.activations(photo, top=1)) == 1


def test_a_caption_without_edits_has_no_receipt(client: GatewayClient, photo: Path) -> None:
    caption = client.caption(photo, "what?", [])
    assert caption == Caption("1 photos, no edits, asked what?", None)


def test_edits_are_sent_and_their_receipt_names_the_file_that_was_given(
    client: GatewayClient, photo: Path
) -> None:
    caption = client.caption(photo, "what?", DOG_TO_CAT)
    assert caption.text.startswith("1 photos, ablate dog, clamp cat")
    assert caption.receipt is not None
    digest = hashlib.sha256(photo.read_bytes()).hexdigest()
    assert caption.receipt["images"] == [{"sha256": digest}]
    assert caption.receipt["steering"]["edits"] == DOG_TO_CAT


def test_a_stream_grows_to_the_same_caption_and_receipt(client: GatewayClient, photo: Path) -> None:
    grown = list(client.stream(photo, "what?", DOG_TO_CAT))
    assert grown[-1] == client.caption(photo, "what?", DOG_TO_CAT)
    texts = [caption.text for caption in grown]
    assert all(later.startswith(earlier) for earlier, later in zip(texts, texts[1:], strict=False))
    assert len(set(texts)) > 3


def test_a_data_uri_holds_the_bytes_of_the_file(photo: Path, no_photo: Path) -> None:
    header, data = data_uri(photo).split(",")
    assert header == "data:image/jpeg;base64"
    assert base64.b64decode(data) == photo.read_bytes()
    assert data_uri(no_photo.rename(no_photo.with_suffix(".txt"))).startswith("data:image/")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_refusal_arrives_in_the_words_of_the_gateway(
    client: GatewayClient, photo: Path, streaming: bool
) -> None:
    edits = [{"concept": "unicorn", "op": "ablate"}]
    with pytest.raises(DemoError) as caught:
        if streaming:
            list(client.stream(photo, "what?", edits))
        else:
            client.caption(photo, "what?", edits)
    error = caught.value
    assert error.message == "no concept named 'unicorn'"
    assert (error.code, error.param) == ("unknown_concept", "steering.edits[0].concept")


def test_a_file_that_is_no_photograph_is_refused_by_the_gateway(
    client: GatewayClient, no_photo: Path
) -> None:
    with pytest.raises(DemoError, match="cannot be read.*JPEG") as caught:
        client.activations(no_photo, top=3)
    assert caught.value.code == "invalid_image"


def test_a_file_that_is_gone_is_said_to_be_gone(client: GatewayClient, tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="No such file.*choose it again"):
        client.activations(tmp_path / "gone.jpg", top=3)


def test_a_fault_inside_a_stream_is_an_error_and_no_short_caption(
    client: GatewayClient, photo: Path
) -> None:
    with pytest.raises(DemoError, match="req_"):
        list(client.stream(photo, "crack", []))


def test_a_gateway_that_is_not_there_is_named_with_what_to_start(nowhere: GatewayClient) -> None:
    with pytest.raises(DemoError, match=r"127.0.0.1:9 .*sparsight serve"):
        nowhere.model()


CUT = 'data: {"choices": [{"delta": {"content": "a dog"}}]}\n\n'


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(502, text="<html>bad gateway</html>"), "HTTP 502 without a message"),
        (httpx.Response(200, text="hello"), "no JSON object"),
        (httpx.Response(200, json={"choices": []}), "same version"),
        (httpx.Response(200, json={"choices": [{"message": None}]}), "same version"),
        (httpx.Response(400, json={"error": {"message": "too many"}}), "too many"),
        (httpx.Response(400, json={"error": "text"}), "HTTP 400 without a message"),
    ],
)
def test_answers_of_something_else_are_explained(
    photo: Path, answer: httpx.Response, words: str
) -> None:
    with pytest.raises(DemoError, match=words):
        model_and(answer).caption(photo, "what?", [])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(200, text=CUT), "broke off"),
        (httpx.Response(200, text="data: {no JSON\n\n"), "same version"),
        (httpx.Response(200, text='data: {"a": 1}\n\n'), "same version"),
        (httpx.Response(200, text=""), "broke off"),
        (httpx.Response(503, json={"error": {"message": "64 are waiting"}}), "64 are waiting"),
    ],
)
def test_streams_that_are_none_or_end_early_are_errors(
    photo: Path, answer: httpx.Response, words: str
) -> None:
    with pytest.raises(DemoError, match=words):
        list(model_and(answer).stream(photo, "what?", []))


def test_a_gateway_that_does_not_answer_in_time_is_told_from_one_that_is_not_there(
    photo: Path,
) -> None:
    def late(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("late", request=request)

    with pytest.raises(DemoError, match="within .* s; it may be busy"):
        answering(late).caption(photo, "what?", [])


def test_without_edits_no_steering_object_is_sent(photo: Path) -> None:
    bodies = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            card = {"id": "fake", "steering": {"fingerprint": "f", "n_features": 8}}
            return httpx.Response(200, json={"data": [card]})
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json={"choices": [{"message": {"content": "a cat"}}]})

    client = answering(answer)
    client.caption(photo, "what?", [])
    client.caption(photo, "what?", DOG_TO_CAT)
    assert "steering" not in bodies[0]
    assert bodies[1]["steering"] == {"edits": DOG_TO_CAT}
