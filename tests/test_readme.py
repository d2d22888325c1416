"""The README does not drift: it names every file, and only commands that exist."""

import re

from phi4r.tools.cli import COMMANDS


def source_files(repository):
    folders = ("phi4r", "configs", "launch", "notebooks", "benchmarks")
    endings = {".py", ".sh", ".sbatch", ".ipynb"}
    return {
        path.relative_to(repository)
        for folder in folders
        for path in (repository / folder).rglob("*")
        if path.suffix in endings and path.name != "__init__.py"
    }


def listed_files(readme):
    """Reads the tree: a folder at the start of a line, its files indented under it."""
    tree = readme.split("## The files")[1].split("```")[1]
    folder, listed = "", set()
    for line in tree.splitlines():
        name = line.split()[0] if line.strip() else ""
        if name.endswith("/"):
            folder = name
        elif name and line.startswith("  "):
            listed.add(folder + name)
    return listed


def test_the_file_tree_lists_every_file_and_no_other(repository):
    readme = (repository / "README.md").read_text()
    assert listed_files(readme) == {str(path) for path in source_files(repository)}


def test_every_command_of_the_readme_exists_and_every_command_is_in_it(repository):
    named = set(re.findall(r"^phi4r ([a-z-]+)", (repository / "README.md").read_text(), re.MULTILINE))
    assert named == set(COMMANDS)


def test_the_configs_that_the_readme_runs_exist(repository):
    for config in re.findall(r"--config=(configs/[a-z_0-9]+\.py)", (repository / "README.md").read_text()):
        assert (repository / config).is_file()


def test_the_make_targets_that_the_readme_names_exist(repository):
    targets = set(re.findall(r"^([a-z]+):", (repository / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)`", (repository / "README.md").read_text())) <= targets
