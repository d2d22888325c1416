"""The one exception for mistakes that a person can mend."""


class UserError(Exception):
    """Bad input: one clear line that says what is wrong and how to mend it.

    `phi4r.main` and the `phi4r` command print the message alone, without a traceback, and exit with code 2.
    Everything else that is raised is a bug of ours and keeps its traceback.
    """
