"""What can go wrong with exported files."""

MISSING = '{name} is not installed: pip install "basicsr-lmlt[export]"'


class ExportError(Exception):
    """A network that cannot be exported, or a file that cannot be run; the message says why."""
