"""`vigie link`: one MQTT 5 session with the department's broker. No privileges beyond the filter's socket.

- `agent`: everything wired together on one asyncio loop; `daemon`: starts it, tells systemd
- `dial`: TCP, proxy, TLS 1.3, dates; `wire`: one MQTT session over such a socket; `packets`: bounds what is read (pure)
- `backoff`: when to try again, on which port (pure)
- `pump`: from the filter's outbox to the session; `sender`: which row to send when (pure)
- `steering`: orders put into force, kept, repaired; `orders`: what an order or command is worth (pure)
- `complaints`: which refusals are told (pure); `execute`: doing a command
- `report`: the `state` message (pure); `machine`: its figures; `diagnose`, `redact` (pure): diagnostic texts
- `store`: the link's files; `status`: where it stands; `filterclient`: the filter's socket
"""
