"""What can go wrong in an evaluation."""


class UsageError(Exception):
    """A request that makes no sense; the message says what to give instead."""


class DataError(Exception):
    """Images that cannot be compared; the message names them and says what is wrong."""
