"""`vigie update`: what the department publishes, fetched over HTTPS, verified by TUF, handed to whoever applies it."""
