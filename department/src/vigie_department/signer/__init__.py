"""The signer: own process and user, the only holder of the online keys; and the ceremonies of the offline keys."""
