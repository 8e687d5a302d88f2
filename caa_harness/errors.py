"""The error tree: everything that a reader of our messages can do something about.

Every error says what was found, where, and what to try next; the constructor
demands all three, so a message without a next step cannot be raised.  Our own
mistakes are ``assert`` statements and never part of this tree.
"""


class HarnessError(Exception):
    """Something that the reader of the message can put right.

    Parameters
    ----------
    found : str
        What was found, in one line.
    where : str
        ``file:line:col: /pointer`` for files, an option's or a model's name else.
    remedy : str
        What to try next, starting with a verb.
    """

    def __init__(self, found: str, *, where: str, remedy: str) -> None:
        super().__init__(found)
        self.found = found
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        """Where, what, and on a second line what to try."""
        return f"{self.where}: {self.found}\n  try: {self.remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        """Cross a process boundary with all three parts."""
        return (_rebuild, (type(self), self.found, self.where, self.remedy))


def _rebuild(kind: type[HarnessError], found: str, where: str, remedy: str) -> HarnessError:
    """Make the error again on the other side of a process boundary."""
    return kind(found, where=where, remedy=remedy)


class SpecError(HarnessError):
    """A behavior spec that cannot be read, or does not say what a spec must say."""


class PromptError(HarnessError):
    """A prompt whose tokens cannot carry the question that was asked."""


class EngineError(HarnessError):
    """A model that cannot be opened, or cannot answer as it should."""


class VectorError(HarnessError):
    """Residuals or files from which no steering vector can be made."""


class MeasurementError(HarnessError):
    """Measurements that are missing, damaged, or made for something else."""


class OptionError(HarnessError):
    """An option or a setting whose value cannot be used."""


class ReportError(HarnessError):
    """A report that is missing, damaged, or of another format."""
