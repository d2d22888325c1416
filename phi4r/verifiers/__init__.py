"""Verifiers: a response and a reference in, a verdict out; never jax, never a raised exception.

`MathVerifier` and `IntegerVerifier` judge final answers; `VerifierPool` and `verify_all` run any verifier in
processes that can be killed. Importing this package takes milliseconds: computer algebra is loaded in the workers.
"""

from phi4r.verifiers.answers import final_answer
from phi4r.verifiers.exact import IntegerVerifier, integer_answer
from phi4r.verifiers.math import MathVerifier, math_equivalent
from phi4r.verifiers.pool import VerifierPool, verify_all
from phi4r.verifiers.verdict import TwoSpeedVerifier, Verdict, Verifier

__all__ = [
    "IntegerVerifier",
    "MathVerifier",
    "TwoSpeedVerifier",
    "Verdict",
    "Verifier",
    "VerifierPool",
    "final_answer",
    "integer_answer",
    "math_equivalent",
    "verify_all",
]
