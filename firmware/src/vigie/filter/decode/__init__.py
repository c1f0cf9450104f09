"""Decoders of what devices send: pure functions of bytes, bounded in time and memory.

`frames` (Ethernet to transport) never raises; `tls` and `quic` find the server's name in a client's first bytes; `dns`,
`dhcp` and `discovery` read whole messages and raise only `vigie.errors.DecodeError`. Nothing here decides anything.
"""
