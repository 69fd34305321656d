"""One delivery to a callback's address, and to no other.

A host is one of the list that the operator gave; every address that its name has must be a public
one, or be on the list itself; and the connection goes to one of the addresses that were looked at,
so a name that changes its mind in between leads nowhere else. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livery.errors import quoted, shown
from livery.serve.errors import Refused

if TYPE_CHECKING:
    import httpcore2

SECONDS = 20.0  # for a whole delivery, from the name to the last byte that is read
LARGEST_ANSWER = 64 << 10  # bytes; nothing of an answer is needed but its status
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PORTS = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True)
class Target:
    """Where a callback goes: a URL that `check_url` has taken."""

    url: str
    host: str
    port: int


def check_url(url: str, allowed: Iterable[str]) -> Target:
    """The target that a callback's URL names.

    Args:
        allowed: hosts that may be told, as `livery serve --callback-host` has them.

    Raises:
        Refused: it is no such URL, or its host is not allowed.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = None, None
    if (
        parts is None or parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc
        or parts.fragment or not url.isascii() or not url.isprintable() or " " in url or port == 0
    ):  # fmt: skip
        raise Refused(
            "callback.url must be an http or https URL, without a user, password or fragment.",
            key="callback.url",
        )
    host = parts.hostname.lower()
    if not _listed([host]) <= _listed(allowed):
        raise Refused(
            f"callback.url: this server may not call {quoted(host)}. Whoever runs it allows that "
            f"with: livery serve --callback-host {shown(host)}",
            key="callback.url",
        )
    return Target(url, host, port or _PORTS[parts.scheme])


def check_addresses(host: str, addresses: Sequence[str], allowed: Iterable[str]) -> None:
    """Raises Refused unless every address is public, or on the list as an address."""
    listed = _listed(allowed)
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not (_is_public(address) or _inmost(address).compressed in listed):
            raise Refused(
                f"callback.url: {quoted(host)} is at {_inmost(address)}, which is not a public "
                "address. Whoever runs this server allows it with: "
                f"livery serve --callback-host {_inmost(address)}",
                key="callback.url",
            )
    if not addresses:
        raise Refused(f"callback.url: {quoted(host)} has no address.", key="callback.url")


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name, as the system resolves it. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


async def send(
    target: Target,
    body: bytes,
    *,
    delivery: str,
    auth: str = "",
    allowed: Iterable[str],
    resolver: Resolve = resolve,
    seconds: float = SECONDS,
) -> str:
    """POST `body`; "" where the other side said that it has it, else what went wrong.

    Args:
        delivery: the id of this delivery, the same at every try.
        auth: value of the Authorization header. No message holds it.
        resolver: (host, port) -> addresses.
    """
    import httpcore2

    headers = {
        "Host": urllib.parse.urlsplit(target.url).netloc,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "User-Agent": "livery",
        "Idempotency-Key": delivery,
        **({"Authorization": auth} if auth else {}),
    }
    try:
        async with asyncio.timeout(seconds):
            addresses = await asyncio.to_thread(resolver, target.host, target.port)
            check_addresses(target.host, addresses, allowed)
            async with (
                httpcore2.AsyncConnectionPool(network_backend=_pinned(addresses)) as pool,
                pool.stream(
                    "POST", target.url, headers=list(headers.items()), content=body
                ) as response,
            ):
                if not 200 <= response.status < 300:
                    return f"the answer was {response.status}"
                size = 0
                async for piece in response.aiter_stream():
                    size += len(piece)
                    if size > LARGEST_ANSWER:
                        break
                return ""
    except TimeoutError:
        return f"no whole answer within {seconds:g} seconds"
    except (Refused, OSError, UnicodeError, ValueError) as error:
        return shown(error, 500)
    except (
        httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException,
        httpcore2.ProxyError,
    ) as error:  # fmt: skip
        return f"broke off ({shown(error) or type(error).__name__})"


def _pinned(addresses: Sequence[str]) -> httpcore2.AsyncNetworkBackend:
    """Connects to these addresses alone, whatever the name. TLS goes on to check the name."""
    import httpcore2

    class Pinned(httpcore2.AsyncNetworkBackend):
        def __init__(self) -> None:
            self._network: Any = httpcore2.AnyIOBackend()

        async def connect_tcp(self, host: str, port: int, *more: Any, **named: Any) -> Any:
            for address in addresses[:-1]:
                try:
                    return await self._network.connect_tcp(address, port, *more, **named)
                except httpcore2.ConnectError:
                    continue
            return await self._network.connect_tcp(addresses[-1], port, *more, **named)

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    return Pinned()


def _inmost(address: Address) -> Address:
    """The address that packets end at: an IPv6 one can carry an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        teredo = address.teredo[1] if address.teredo else None
        return address.ipv4_mapped or address.sixtofour or teredo or address
    return address


def _is_public(address: Address) -> bool:
    inmost = _inmost(address)
    local = isinstance(inmost, ipaddress.IPv6Address) and inmost.is_site_local
    return inmost.is_global and not (inmost.is_multicast or inmost.is_reserved or local)


def _listed(allowed: Iterable[str]) -> set[str]:
    """Hosts as they are compared: small letters, and addresses in their shortest form."""
    found: set[str] = set()
    for host in allowed:
        name = host.lower().strip("[]")
        try:
            found.add(_inmost(ipaddress.ip_address(name)).compressed)
        except ValueError:
            found.add(name)
    return found
