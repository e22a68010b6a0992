"""The one function that fetches what a request, or a list, points to on the web.

A server that fetches addresses for others can be turned on its own network (SSRF). So: only hosts
that are allow-listed (by default none), http and https alone, and no address of this machine, its
networks or a cloud's metadata service, at any hop. The name is resolved once and the connection goes
to the very address that was checked, or a name could change between check and use. Bytes and seconds
are counted while they come. No proxy of the environment is used: it would resolve names itself.

Nothing but the standard library is imported before an address is fetched: each worker process of
batch captioning passes through here.
"""

import ipaddress
import re
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from sparse_encoder.errors import SparsightError

if TYPE_CHECKING:
    import httpcore

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

BUSY = (429, 500, 502, 503, 504)  # answers that may be others a little later
MOVED = (301, 302, 303, 307, 308)
HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,252}[a-z0-9])?")  # a name, or an IPv4 address
PORTS = {"http": 80, "https": 443}
# Azure's wire server answers any of its machines under an address that looks public.
METADATA = frozenset([ipaddress.ip_address("168.63.129.16")])
# Not global by IANA's registries, but taken for it by older Pythons (CVE-2024-4032).
SPECIAL = [ipaddress.ip_network(n) for n in ("192.0.0.0/24", "64:ff9b:1::/48", "3fff::/20")]
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class RemoteImageError(SparsightError):
    """An address that is not fetched, or that gives no bytes."""

    code = "remote_image"


class RemoteBusyError(RemoteImageError):
    """May work a little later."""


@dataclass(frozen=True)
class RemoteImages:
    """From where images are fetched, and how much of them. The default fetches none."""

    hosts: frozenset[str] = frozenset()  # lower case; "*.a.org" all below a.org; "*" any
    private: bool = False  # also this machine and its networks, and any port
    max_bytes: int = 20_000_000  # of one image
    timeout_s: float = 10.0  # of one image, from the name's resolution to its last byte
    max_hops: int = 3  # redirects that are followed

    def __post_init__(self) -> None:
        for host in self.hosts:
            name = host.removeprefix("*.")
            if host != "*" and not (HOST.fullmatch(name) or _literal(name)):
                raise SparsightError(
                    f"{host[:80]!r} is no host to fetch images from; expected a name such as "
                    "images.example.org, *.example.org for all below it, or * for any",
                    param="image_host",
                )

    def allows(self, host: str) -> bool:
        """Whether this host (lower case, without a dot at its end) may be asked at all."""
        above = (f"*.{host[at + 1 :]}" for at, sign in enumerate(host) if sign == ".")
        return "*" in self.hosts or host in self.hosts or any(name in self.hosts for name in above)


ANYWHERE = RemoteImages(hosts=frozenset(["*"]), private=True, timeout_s=120.0, max_hops=10)
"""For addresses that the user of this machine wrote down: they may mean this machine, too."""


def fetch_image(address: str, allowed: RemoteImages, max_bytes: int | None = None) -> bytes:
    """The bytes at a web address, at most one more than `max_bytes`, so that too many show.

    Raises RemoteImageError in words, RemoteBusyError where another try may help. Blocks for at most
    `allowed.timeout_s`.
    """
    limit = allowed.max_bytes if max_bytes is None else max_bytes
    clock = _Clock(allowed.timeout_s)
    for _ in range(allowed.max_hops + 1):
        found = _get(_checked(address, allowed), allowed, limit, clock)
        if isinstance(found, bytes):
            return found
        address = urljoin(address, found)
    raise RemoteImageError(f"it leads on more than {allowed.max_hops} times; give the last address")


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet's, and so of nobody's own network."""
    inner: Iterable[Any] = ()
    if isinstance(address, ipaddress.IPv6Address):
        # Addresses that carry an IPv4 address lead to where that one leads.
        if address in NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    return (
        address.is_global
        and not (address.is_multicast or address.is_reserved or address.is_unspecified)
        and address not in METADATA
        and not any(address in network for network in SPECIAL)
        and all(is_public(one) for one in inner if one is not None)
    )


class _Clock:
    """Seconds that are left of an image's time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise RemoteBusyError(f"the server cannot be reached in {self._seconds:g} s")
        return left


def _checked(address: str, allowed: RemoteImages) -> SplitResult:
    try:
        parts = urlsplit(address)
        port = parts.port
        host = (parts.hostname or "").rstrip(".").encode("idna").decode()
    except ValueError as error:
        raise RemoteImageError(f"not a web address ({error})") from None
    plain = not re.search(r"[\x00-\x20\x7f\\]", address)  # readers of addresses differ over these
    if not plain or parts.scheme not in PORTS or not (HOST.fullmatch(host) or _literal(host)):
        raise RemoteImageError("not a web address; expected http://... or https://...")
    if parts.username is not None or parts.password is not None:
        raise RemoteImageError("the address holds a name or password; leave them out")
    if not allowed.allows(host):
        raise RemoteImageError(
            f"images are not fetched from {host[:80]}; send the photograph itself as "
            "data:image/jpeg;base64,..."
        )
    if not allowed.private and port not in (None, PORTS[parts.scheme]):
        raise RemoteImageError(f"port {port} is not asked for images; expected 80 or 443")
    shown = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=shown if port is None else f"{shown}:{port}")


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _get(parts: SplitResult, allowed: RemoteImages, limit: int, clock: _Clock) -> bytes | str:
    """The bytes, or where they have moved to."""
    import httpcore

    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = f"?{quote(parts.query, safe='/%:@!$&()*+,;=~?')}" if parts.query else ""
    url = httpcore.URL(
        scheme=parts.scheme.encode(),
        host=(parts.hostname or "").encode(),
        port=parts.port,
        target=(path + query).encode(),
    )
    headers: dict[bytes | str, bytes | str] = {
        "host": parts.netloc,
        "accept": "image/*",
        "accept-encoding": "identity",  # what is counted is what comes: no bomb inside
        "user-agent": "sparsight",
    }
    data = bytearray()
    try:
        with (
            httpcore.ConnectionPool(network_backend=_guarded(allowed, clock)) as pool,
            pool.stream("GET", url, headers=headers) as response,
        ):
            if response.status in MOVED:
                found = dict((k.lower(), v) for k, v in response.headers).get(b"location")
                if found is None:
                    raise RemoteImageError(f"the server answered {response.status} to nowhere")
                return found.decode("latin-1")
            if response.status in BUSY:
                raise RemoteBusyError(f"the server answered {response.status}")
            if response.status != 200:
                raise RemoteImageError(f"the server answered {response.status}")
            for piece in response.iter_stream():
                data += piece
                if len(data) > limit:
                    break
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError):
        raise RemoteBusyError("the server cannot be reached") from None
    return bytes(data[: limit + 1])


def _guarded(allowed: RemoteImages, clock: _Clock) -> "httpcore.NetworkBackend":
    """Opens connections to checked addresses only, each wait within what is left of the time."""
    import httpcore

    class Stream(httpcore.NetworkStream):
        def __init__(self, inner: httpcore.NetworkStream) -> None:
            self.inner = inner

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            return self.inner.read(max_bytes, clock.left())

        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            self.inner.write(buffer, clock.left())

        def close(self) -> None:
            self.inner.close()

        def start_tls(
            self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
        ) -> "Stream":
            return Stream(self.inner.start_tls(ssl_context, server_hostname, clock.left()))

        def get_extra_info(self, info: str) -> Any:
            return self.inner.get_extra_info(info)

    class Backend(httpcore.NetworkBackend):
        def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> Stream:
            found = _resolve(host, port, clock.left())
            if not allowed.private and not all(is_public(one) for one in found):
                # Which address it was, or whether anything listens there, is nobody's business.
                raise RemoteImageError("the address leads into a private network; it is not asked")
            for i, one in enumerate(found, start=1):
                try:
                    return Stream(httpcore.SyncBackend().connect_tcp(str(one), port, clock.left()))
                except (httpcore.ConnectError, httpcore.ConnectTimeout):
                    if i == len(found):
                        raise
            raise AssertionError("the last address returns or raises")

    return Backend()


def _resolve(host: str, port: int, timeout_s: float) -> list[Address]:
    """Every address of a name; at least one."""
    found: list[Address] = []

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        # A zone ("fe80::1%eth0") is no part of the number.
        found.extend(ipaddress.ip_address(str(a[4][0]).partition("%")[0]) for a in answers)

    # getaddrinfo knows no timeout of its own.
    asking = threading.Thread(target=ask, name="resolve", daemon=True)
    asking.start()
    asking.join(timeout_s)
    if asking.is_alive() or not found:
        raise RemoteBusyError("the server cannot be reached: its name leads nowhere")
    return list(dict.fromkeys(found))
