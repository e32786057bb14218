"""The demo: `make demo` shows Podium promote, refuse, roll back and obey, with real predictions.

It asserts what it claims, and needs nothing installed by hand. No part of the
operator imports it; the end-to-end tests build their stage with it.
"""
