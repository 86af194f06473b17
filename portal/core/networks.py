"""Network addresses, as far as anybody is counted or recognized by them."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

PREFIX = {4: 24, 6: 48}


@lru_cache(4_096)
def network_of(address: str) -> str:
    """Return the neighborhood of a network address, of which attempts are counted together; nothing for no address."""
    try:
        found = ip_address(address)
    except ValueError:
        return ""
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return str(ip_network((found, PREFIX[found.version]), strict=False))
