"""What tests of whole GRPO runs have in common."""

import zlib

from phi4r.verifiers.verdict import judged

# What two equal runs may differ in.
CLOCK = ("step_s", "tokens_per_s", "compiles", "sample_s", "sample_host_s", "judge_s")


class Killed(BaseException):
    """Stands for a process that dies: nothing in the code base catches it."""


def coin(problem, text):
    """A judge of random text: right or wrong by the text alone, so that groups have a spread."""
    return judged("heads", zlib.crc32(text.encode()) % 2 == 0)
