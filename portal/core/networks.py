"""Network addresses, as far as anybody is counted or recognized by them."""

from ipaddress import ip_address, ip_network

PREFIX = {4: 24, 6: 48}


def network_of(address: str) -> str:
    """Return the neighborhood of a network address, of which attempts are counted together; nothing for no address."""
    try:
        found = ip_address(address)
    except ValueError:
        return ""
    return str(ip_network((found, PREFIX[found.version]), strict=False))
