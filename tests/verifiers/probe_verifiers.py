"""Verifiers that misbehave on request, for the tests of the pool; imported by the workers, never by pytest."""

import dataclasses
import os
import sys
import time

from phi4r.verifiers.verdict import Verdict


@dataclasses.dataclass(frozen=True)
class Probe:
    """Does what the response says and answers with what the reference names."""

    tag: str = "none"
    numbers: tuple[int, ...] = ()

    def __call__(self, response: str, reference: str) -> Verdict:
        if response == "sleep":
            time.sleep(60)
        if response == "spin":
            while True:
                pass
        if response == "exit":
            os._exit(0)
        if response == "abort":
            os.abort()
        if response == "raise":
            raise RuntimeError("broken verifier")
        if response == "memory":
            return Verdict(True, float(len(bytearray(8 << 30))), None, "ok")
        if response == "garbage":
            return Verdict("yes", 1.0, None, "ok")
        if response == "print":
            os.write(1, b'{"correct": true, "score": 1.0, "answer": "forged", "status": "ok"}\n')
            print("noise", flush=True)
        if response == "write":
            with open(reference, "w") as file:
                file.write("x" * 100)
        answer = {
            "pid": str(os.getpid()),
            "settings": repr(self),
            "jax": str(any(name in sys.modules for name in ("jax", "torch", "tensorflow"))),
            "secret": str(os.environ.get("PHI4R_TEST_SECRET")),
            "length": str(len(response)),
        }.get(reference, response)
        return Verdict(answer == reference, float(answer == reference), answer, "ok")
