"""The program on a board that is fresh from flashing: tests, the identity key, and the end of the factory."""
