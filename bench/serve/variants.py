"""What is compared, and the turns in which it takes turns: A B C, C B A, A B C."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.serve.load import Job, Round
from bench.serve.servers import Server
from bench.serve.traffic import Traffic, prompt_tokens, words_for

TRANSFORMERS, VLLM, ALONE, LOOP = "transformers", "gateway + vLLM", "vLLM alone", "plain loop"
LOOP_EDITS = 16  # distinct edits of the plain loop, and of what it is compared with


@dataclass(frozen=True)
class Variant:
    """One server with one kind of request. `n_distinct`: different edits; 0 for none."""

    server: str
    n_distinct: int = 0

    @property
    def name(self) -> str:
        if self.server == ALONE:
            return f"{ALONE}, as many text tokens"
        return f"{self.server}, " + (
            f"steered, {self.n_distinct} edits" if self.n_distinct else "unsteered"
        )


@dataclass(frozen=True)
class Sizes:
    """How much is sent."""

    n_turns: int
    n_requests: int  # of a round at full load
    n_streams: int  # of a round at `rate`
    n_loop: int  # of the plain loop's rounds at full load
    at_once: int
    rate: float  # requests/s


@dataclass
class Rounds:
    """Of one variant, in order of turns."""

    full: list[Round] = field(default_factory=list)  # whole answers, so many at once
    warm: list[Round] = field(default_factory=list)  # streams at a rate, photographs seen before
    cold: list[Round] = field(default_factory=list)  # photographs never seen before


def variants_of(servers: Mapping[str, Server], distinct: Sequence[int]) -> list[Variant]:
    """Of the servers that there are."""
    found: list[Variant] = []
    for engine in (TRANSFORMERS, VLLM):
        if engine in servers:
            found += [Variant(engine, n) for n in (0, *distinct)]
    if ALONE in servers:
        found.append(Variant(ALONE))
    if LOOP in servers:
        found.append(Variant(LOOP, LOOP_EDITS))
    return found


class Measurement:
    """Sends every variant's rounds. `send` is `run_load`, or a test's own."""

    def __init__(
        self,
        servers: Mapping[str, Server],
        traffic: Traffic,
        sizes: Sizes,
        send: Callable[[Job], Round],
    ) -> None:
        self._servers, self._traffic, self._sizes, self._send = servers, traffic, sizes, send
        self._n_words = 0
        self._n_rounds = 0

    def prepare(self) -> int:
        """Shows every server every photograph; how many tokens a prompt has."""
        n = len(self._traffic.photographs)
        bodies = self._traffic.unsteered(n, stream=False)
        n_prompt = 0
        for name, server in self._servers.items():
            if name != ALONE:
                self._send(Job(server.chat, bodies, at_once=min(n, self._sizes.at_once)))
                n_prompt = n_prompt or prompt_tokens(bodies, server.chat)
        if ALONE in self._servers:
            alone = self._servers[ALONE]
            self._n_words = words_for(alone.chat, alone.headers, self._text(), n_prompt)
        return n_prompt

    def run(self, variants: Sequence[Variant]) -> Iterator[tuple[int, Variant, str, Round]]:
        """(turn, variant, kind of round, round), as they are done; turn by turn, to and fro."""
        for turn in range(self._sizes.n_turns):
            for variant in variants if turn % 2 == 0 else variants[::-1]:
                for kind in ("full", "warm", "cold"):
                    if kind == "cold" and variant.server == ALONE:
                        continue  # it sees no photographs
                    yield turn, variant, kind, self._round(variant, kind, turn)

    def _round(self, variant: Variant, kind: str, turn: int) -> Round:
        server, sizes = self._servers[variant.server], self._sizes
        n = sizes.n_streams
        if kind == "full":
            n = sizes.n_loop if variant.server == LOOP else sizes.n_requests
        self._n_rounds += 1
        fresh = self._n_rounds  # edits of no other round: no cache of soft tokens knows them
        stream = kind != "full"
        if variant.server == ALONE:
            bodies = self._text().text_alone(n, self._n_words, fresh, stream=stream)
        elif variant.n_distinct:
            bodies = self._traffic.steered(
                n, variant.n_distinct, fresh, stream=stream, cold=kind == "cold"
            )
        else:
            bodies = self._traffic.unsteered(n, stream=stream, cold=kind == "cold")
        pace = {"rate": sizes.rate} if stream else {"at_once": sizes.at_once}
        return self._send(
            Job(
                server.chat,
                bodies,
                headers=server.headers,
                pids=list(server.pids),
                seed=turn,
                **pace,
            )
        )

    def _text(self) -> Traffic:
        """The same, under the name that the bare vLLM has for the model."""
        traffic = self._traffic
        model = self._servers[ALONE].model
        return Traffic(model, traffic.photographs, traffic.max_tokens, traffic.end)
