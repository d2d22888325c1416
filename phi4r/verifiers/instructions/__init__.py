"""Instructions that a program can check (IFEval): 25 types, one file a family.

Each file holds functions that take the `Arguments` of an instruction and return a `Check`, text in, followed or not
out; `table` names them, `verifier` judges responses with them. What a type means is what the scorer of the benchmark
(Zhou et al., arXiv 2311.07911) means, except where that scorer misjudges; every such place is named in the docstring
of its function as "compat", and `InstructionVerifier(compat=True)` judges there as the published scorer does.
Every check takes time linear in the length of the text.
"""

from phi4r.verifiers.instructions.arguments import Check
from phi4r.verifiers.instructions.table import FAMILIES, INSTRUCTIONS, Instruction, read_instructions
from phi4r.verifiers.instructions.verifier import InstructionVerifier

__all__ = ["FAMILIES", "INSTRUCTIONS", "Check", "Instruction", "InstructionVerifier", "read_instructions"]
