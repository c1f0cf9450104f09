"""The enrolment authority: certification authority, protocol, store, HTTP and admin sockets."""
