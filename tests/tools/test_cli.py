import subprocess
import sys

import pytest

from phi4r.tools import cli

CODE = """
import sys
from phi4r.tools.cli import main
try:
    main(sys.argv[1:])
finally:
    print([name for name in ("jax", "numpy", "orbax", "matplotlib") if name in sys.modules])
"""


def test_help_lists_every_command_without_importing_one(repository):
    run = subprocess.run([sys.executable, "-c", CODE, "--help"], cwd=repository, capture_output=True, text=True)
    assert run.returncode == 0
    for name, module in cli.COMMANDS.items():
        summary = cli._docstring(module).splitlines()[0]
        assert name in run.stdout.split()
        assert " ".join(summary.split()) in " ".join(run.stdout.split())
    assert run.stdout.splitlines()[-1] == "[]"


def test_every_file_of_the_package_is_a_command(repository):
    files = {path.stem for path in (repository / "phi4r" / "tools").glob("[a-z]*.py")} - {"cli"}
    assert files == set(cli.COMMANDS.values())


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([name, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: phi4r {name} ")


@pytest.mark.parametrize(("argv", "message"), [([], "COMMAND"), (["genrate"], "'genrate'"), (["tokenizer"], "WAY")])
def test_a_missing_or_unknown_command_is_refused(argv, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(argv)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
