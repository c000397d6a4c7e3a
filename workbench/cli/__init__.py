"""The command line: one file a noun. In: words. Out: text or JSON on stdout, errors as one sentence on stderr.

Nothing here computes: a command checks its words, calls the room that does the work, and says what came of it.
"""


def main() -> None:
    """Entry point of the command `workbench`."""
    from .commands import main as run

    run()
