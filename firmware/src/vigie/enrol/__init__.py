"""From a box that knows nobody to a member of the fleet, and back: identity, certificates, signed time."""
