"""How mathematical problems are asked."""


def math_prompt(problem: str, *, form: str = "simplified and without words") -> str:
    r"""Returns the prompt: the problem, what its answer looks like, and that it goes into `\boxed{}`."""
    return (
        f"{problem}\n\n"
        "Think the problem through step by step. "
        rf"Then end your response with the final answer, {form}, put into \boxed{{}}."
    )
