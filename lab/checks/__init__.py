"""What the lab expects, by theme. Each function takes the Office, returns its evidence, raises AssertionError."""
