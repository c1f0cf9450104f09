"""`vigie link`: one MQTT 5 session with the department's broker. No privileges beyond the filter's socket.

agent       wires everything together on one asyncio loop · daemon: starts it, systemd
dial        TCP, proxy, TLS 1.3, dates · wire: one MQTT session over such a socket · packets: bounds what is read
backoff     when to try again, on which port (pure)
sender      which outbox row to send when (pure)
orders      what a desired state or command is worth (pure) · execute: doing a command
reconcile   what is in force against what was ordered
report      the `state` message (pure) · redact, diagnose: diagnostic texts
store       the link's files · filterclient: the filter's socket
"""
