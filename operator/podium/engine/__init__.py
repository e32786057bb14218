"""The pure core: an observation in, a decision out. No I/O, no clock, no randomness."""
