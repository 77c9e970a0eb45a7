"""`decloud demo`."""


def demo() -> None:
    """x"""
