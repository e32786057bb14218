"""The demo: `make demo` shows Podium promote, refuse, roll back and obey, with real predictions.

It asserts what it claims, and needs nothing installed by hand. No test and no part of the
operator imports it.
"""
