"""Text that comes from somebody else's file, on its way to a terminal."""


def printable(text: str) -> str:
    """The text with every character that a terminal would obey, or cannot encode, as its code.

    Lines stay lines: a line feed is kept.
    """
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
