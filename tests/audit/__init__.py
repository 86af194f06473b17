"""What other people's tools find in this portal; each runs in an environment of its own and is no part of it."""
