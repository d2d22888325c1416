import time

import pytest

from phi4r.verifiers.code.blocks import last_python_block


@pytest.mark.parametrize(
    "text, program",
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("First\n```python\nx = 1\n```\nbetter\n```python\nx = 2\n```\nDone.", "x = 2"),
        ("```python\nx = 1\n```\nIt prints\n```\n1\n```\nand\n```json\n{}\n```", "x = 1"),
        ("```Python3\nx = 1\n```", "x = 1"),
        ("```py title=a.py\nx = 1\n```", "x = 1"),
        ("``` python \nx = 1\n```  ", "x = 1"),
        ("```{.python}\nx = 1\n```", "x = 1"),
        ("~~~python\nx = '```'\n```\n~~~", "x = '```'\n```"),
        ("````python\n```\nx\n```\n````", "```\nx\n```"),
        ("```\nx = 1\n```\n```bash\nls\n```", "x = 1"),
        ("```bash\nls\n```", None),
        ("```pythonic\nx\n```", None),
        ("1. So:\n   ```python\n   if a:\n       b\n\n   c\n   ```", "if a:\n    b\n\nc"),
        ("```python\nx = 1", "x = 1"),
        ("Here it is: ```python\nx = 1\n```", "x = 1"),
        ("```python\nx = 1\n``` or rather ```python\nx = 2\n``` so.", "x = 2"),
        ("```python\n'''\n    ```python\n    1\n'''\n```", "'''\n    ```python\n    1\n'''"),
        ("```python\n```", ""),
        ("```python\r\nx = 1\r\n```\r\n", "x = 1\r"),
        ("Use `x` and ```x``` inline.", None),
        ("no code here", None),
        ("", None),
        ("Here:\n\nfrom typing import Any\n\ndef f():\n    return", "from typing import Any\n\ndef f():\n    return"),
        ("from the problem we import nothing, and import a lot\nclass is over", None),
        ("import math, sys\nprint(1)", "import math, sys\nprint(1)"),
        ("@cache\ndef f(): pass", "@cache\ndef f(): pass"),
        ("@ 3 pm\nasync def f():\n  pass", "async def f():\n  pass"),
    ],
)  # fmt: skip
def test_the_program_is_the_last_python_block(text, program):
    assert last_python_block(text) == program


@pytest.mark.parametrize(
    "text",
    [
        "`" * 10**6, "```python\n" * 10**5, "```python  " * 10**5, "```" + "x" * 10**6, "```\n~~~\n" * 10**5,
        "import " * 10**5, "import " + "a." * 10**6, "import a" + " " * 10**6, "from" + " " * 10**6,
        "\n" * 10**6, " " * 10**6, "\ud800\x00" * 10**5,
    ],
)  # fmt: skip
def test_hostile_text_takes_bounded_time(text):
    start = time.perf_counter()
    last_python_block(text)
    assert time.perf_counter() - start < 1.5
