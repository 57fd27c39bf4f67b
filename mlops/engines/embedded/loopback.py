"""Who may use what listens on loopback: programs of the platform's own user, and no web page.

Owns the one check that the engine's API, the bucket and the feed share. Any user of a machine reaches its loopback
interface, and so does every page in a browser of this user. The kernel knows whose the other end of a connection is, so
that no client needs a password; the headers that only browsers send tell the pages. Deliberately not: what is served.
"""

import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Handler = Callable[[Any], Awaitable[web.StreamResponse]]

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY
_REQUEST = 1  # NLM_F_REQUEST
_CONNECTED = (
    1,
    4,
    5,
    8,
)  # TCP_ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT: a connection, open in one direction at least
_HEAD = struct.Struct("=IHHII")  # nlmsghdr
_QUESTION = struct.Struct("=BBBBI")  # inet_diag_req_v2 before its inet_diag_sockid
_PORTS = struct.Struct("!HH")
_ANSWER = struct.Struct("=4x36s24xII")  # of an inet_diag_msg: both ends, uid and inode


class Peers:
    """Asks the kernel whose the other end of a TCP connection on 127.0.0.1 is.

    It answers for the network namespace in which it was made, wherever its socket is used from.

    Args:
        netlink: A socket that `question` made; None for one of its own.
    """

    def __init__(self, netlink: socket.socket | None = None) -> None:
        self._netlink = netlink or question()

    def uid(self, peer: tuple[str, int], own: tuple[str, int]) -> int | None:
        """The user whose process holds the other end; None where no process does."""
        addresses = [socket.inet_aton(address) for address, _ in (peer, own)]
        # The question is for the other end's own socket, so its address comes first.
        ports = _PORTS.pack(peer[1], own[1])
        plain = ports + b"".join(address.ljust(16, b"\0") for address in addresses)
        mapped = ports + b"".join(b"\0" * 10 + b"\xff\xff" + address for address in addresses)  # Java's sockets
        asked = _QUESTION.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + plain + bytes(4) + b"\xff" * 8
        self._netlink.send(_HEAD.pack(_HEAD.size + len(asked), _BY_FAMILY, _REQUEST, 0, 0) + asked)
        said = self._netlink.recv(8192)
        if _HEAD.unpack_from(said)[1] != _BY_FAMILY:  # an error: there is no such socket
            return None
        found = said[_HEAD.size :]
        ends, uid, inode = _ANSWER.unpack_from(found)
        # Where there is no connection, a socket that listens is found. One that no process holds counts as root's.
        if found[1] not in _CONNECTED or ends not in (plain, mapped) or not inode:
            return None
        return uid


def question() -> socket.socket:
    """A socket that the kernel answers on; one for each process that asks."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG)


def guard(peers: Peers, uid: int | None = None) -> Any:
    """Make the middleware that every server on loopback has first.

    Args:
        peers: Of the network namespace in which the server listens.
        uid: Whose programs may ask; None for the user of this process.
    """
    allowed = os.geteuid() if uid is None else uid

    @web.middleware
    async def checked(request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
        """Refuse another user's programs, another name for this server, and every web page."""
        transport = request.transport
        peer, own = (transport.get_extra_info(name) if transport else None for name in ("peername", "sockname"))
        if not peer or not own or peers.uid(peer, own) != allowed:
            return refusal(403, "this server answers programs of the user who started it only")
        names = [name.lower() for name in request.headers.getall("Host", [])]
        if names not in ([f"127.0.0.1:{own[1]}"], [f"localhost:{own[1]}"]):
            return refusal(403, f"this server answers requests to 127.0.0.1:{own[1]} or localhost:{own[1]} only")
        # A browser says by these from where a page asks; `none` is an address that a person typed.
        if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") != "none":
            return refusal(403, "this server answers no web page")
        return await handler(request)

    return checked


def refusal(status: int, text: str) -> web.Response:
    """An answer of one line that says why."""
    return web.Response(status=status, text=" ".join(text.split()))
