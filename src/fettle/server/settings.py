"""What a server is told when it is started."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

DEFAULT_PORT = 8377


@dataclass(frozen=True, slots=True)
class Settings:
    """One server over one folder."""

    root: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    token: str | None = None
    """Asked of every request where it is given."""
    control: bool = False
    """Whether a page may stop, pause and resume runs."""
    names: frozenset[str] = field(default_factory=frozenset[str])
    """Further host names under which it may be called, such as that of a proxy."""
    streams: int = 256
    """Live streams at a time; more are turned away."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    def allows_host(self, name: str) -> bool:
        """Whether a request may call the server by this name.

        A page of somebody else can point its own name at this address (DNS rebinding), but then the
        request carries that name. An address cannot be pointed elsewhere.
        """
        if name == "localhost" or name in self.names or is_loopback(name):
            return True
        return not self.is_local and (_is_address(name) or name in (self.host, socket.gethostname().lower()))


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine itself."""
    return host == "localhost" or (_is_address(host) and ip_address(host.strip("[]")).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
