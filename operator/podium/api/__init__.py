"""The podium.dev resources as typed, frozen values. No I/O."""
