"""The department's side of the fleet: console, ingest, signer, toxic base, broker."""
