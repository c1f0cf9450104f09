"""The flashing bench: identities and the register of purchased boxes."""
