"""What the commands of this folder take, refused with a sentence where nothing would be played."""

import argparse


def positive(text: str) -> int:
    """Raises argparse.ArgumentTypeError for what is no whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number of at least 1")
    return int(text)
