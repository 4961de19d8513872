"""What README shows is what the programs print, and its tree is that of the folders."""

import re
from pathlib import Path

import tinygrad_llm as tg

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_page_of_gelu_is_the_one_that_is_printed():
    """The lines shown come one after the other in what the command prints."""
    shown = re.search(r"^    \$ tinygrad-llm explain gelu\n((?:    .*\n|\n)+)", TEXT, re.M)
    lines = [line[4:] for line in shown[1].split("\n") if line.strip()]
    assert len(lines) >= 8
    printed = iter(str(tg.explain("gelu")).split("\n"))
    for line in lines:
        # `in` goes through the iterator up to the line it finds.
        assert line.strip() in map(str.strip, printed), f"README shows, not printed: {line}"


def test_the_tree_names_every_folder_and_file():
    tree = TEXT.partition("## Where everything is")[2].partition("\n## ")[0]
    named = re.findall(r"^ +([\w/]+/) ", tree, re.M)
    package = ROOT / "tinygrad_llm"
    folders = {path.name + "/" for path in package.iterdir() if (path / "__init__.py").is_file()}
    files = {path.name for path in package.glob("[a-z]*.py")}
    assert folders <= set(named)
    assert files <= set(re.findall(r"^ +(\w+\.py) ", tree, re.M))
    places = (ROOT, ROOT / "kernels", package, package / "ops", package / "training")
    assert all(any((place / name).is_dir() for place in places) for name in named)


def test_the_picture_is_small():
    assert (ROOT / "docs/images/explorer.png").stat().st_size < 150_000
