"""Option files that are no option files: one line that names the place, at once, and nothing is run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from helpers.small.options import paired_options

from lmlt_arch.cli import main
from lmlt_arch.options import OptionError, load_option_file, option_mistakes, read_option_file
from lmlt_arch.options.reading import MOST_BYTES


def chain(first: str, link: str) -> bytes:
    """Eleven lines, each of which stands nine times in the next one."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} {link.format(','.join([f'*a{n - 1}'] * 9))}" for n in range(1, 12)]
    return "\n".join(lines).encode() + b"\n"


GOOD = b"name: x\nscale: 2\n"
BOMB = "aliases (*name) expand to more than 262,144 characters"
CASES: dict[str, tuple[bytes, str]] = {
    "lists": (chain("[x]", "[{}]"), f":7: {BOMB}"),
    "mappings": (chain("{x: 1}", "{{<<: [{}]}}"), f":6: {BOMB}"),
    "text": (b"a: &a " + b"x" * 9000 + b"\nb: [" + b"*a, " * 40 + b"]\n", f":2: {BOMB}"),
    "itself": (b"a: &a [1, *a]\n", ":1: holds itself, by an alias (*name)"),
    "itself below": (b"x: 1\na: &a {b: {c: *a}}\n", ":2: holds itself, by an alias (*name)"),
    "deep": (b"a: " + b"[" * 50000, ":1: is nested more than 30 deep"),
    "deep mappings": (b"a: " + b"{a: " * 50000, ":1: is nested more than 30 deep"),
    "deep blocks": (b"".join(b" " * n + b"a:\n" for n in range(600)), ":30: is nested more than 30 deep"),
    "large": (GOOD + b"#\n" * MOST_BYTES, " is no option file: it has more than 262,144 bytes"),
    "binary": (bytes(range(256)), " is no option file: it holds no text in UTF-8. Save it as that"),
    "zero": (GOOD + b"\0", " is no option file: it holds no text in UTF-8. Save it as that"),
    "utf-16": (GOOD.decode().encode("utf-16"), " is no option file: it holds no text in UTF-8"),
    "latin-1": (GOOD + b"a: \xe9\n", ":3: is no YAML: a byte 0xe9 is no UTF-8. Save it as UTF-8"),
    "tab": (GOOD + b"a:\n\tb: 1\n", " is no YAML: while scanning for the next token found character"),
    "code": (
        GOOD + b"a: !!python/object/apply:os.mkdir [ran]\n",
        " is no YAML: could not determine a constructor for the tag",
    ),
    "name of code": (
        GOOD + b"a: !!python/name:os.system\n",
        " is no YAML: could not determine a constructor",
    ),
    "digits": (GOOD + b"a: " + b"9" * 9000 + b"\n", ":3: is too large a number: 99999999999999999999..."),
    "hexadecimal": (GOOD + b"a: 0x" + b"f" * 9000 + b"\n", ":3: is too large a number: 0xffff"),
    "base 60": (GOOD + b"a: " + b"1:" * 400 + b"1.5\n", ":3: is no YAML: '1:1:1:"),
    "no integer": (GOOD + b"a: !!int ''\n", ":3: is no YAML: '' is no int"),
    "no boolean": (GOOD + b"a: !!bool maybe\n", ":3: is no YAML: 'maybe' is no bool"),
    "no time": (GOOD + b"a: !!timestamp x\n", ":3: is no YAML: 'x' is no timestamp"),
    "no date": (GOOD + b"a: 2001-99-99\n", ":3: is no YAML: '2001-99-99' is no timestamp"),
    "two documents": (GOOD + b"---\na: 1\n", " is no YAML: expected a single document"),
    "twice": (GOOD + b"scale: 3\n", ":3: scale: stands here twice, in lines 2 and 3; remove one of them"),
    "list as key": (GOOD + b"? [a]\n: 1\n", " is no YAML: while constructing a mapping"),
    "empty": (b"", " must hold keys and values"),
    "a list": (b"- a\n", " must hold keys and values"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_at_once(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, said = CASES[name]
    file = tmp_path / "x.yml"
    file.write_bytes(data)
    began = time.monotonic()
    with pytest.raises(OptionError) as raised:
        load_option_file(file)
    assert str(raised.value).startswith(f"{file}{said}")
    assert "\n" not in str(raised.value)
    if name != "twice":  # there, other mistakes are named too
        assert main(["check", "-opt", str(file)]) == 1
        assert capsys.readouterr().out == f"{raised.value}\n1 mistake found\n"
    assert time.monotonic() - began < 20
    assert [*tmp_path.iterdir()] == [file]


def test_files_without_an_end_or_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    for name, said in (("/dev/zero", "more than 262,144 bytes"), ("a\0b", "cannot be read: embedded null")):
        assert main(["check", "-opt", name]) == 1
        assert said in capsys.readouterr().out


def test_what_may_stand_in_a_file(tmp_path: Path) -> None:
    """A byte order mark, ends of lines of other systems, and aliases as people use them."""
    file = tmp_path / "x.yml"
    text = "a: &a {b: [1, 2]}\nc: {<<: *a, d: *a}\ne: [*a, *a]\n"
    content = {"a": {"b": [1, 2]}, "c": {"b": [1, 2], "d": {"b": [1, 2]}}, "e": [{"b": [1, 2]}] * 2}
    for changed in (text, f"\ufeff{text}", text.replace("\n", "\r\n"), text.replace("\n", "\r")):
        file.write_bytes(changed.encode())
        assert read_option_file(file).content == content


@pytest.mark.parametrize("model", ["LMLTModel", "SRModel", "Nobody"])
@pytest.mark.parametrize("value", [["LMLT"], {"a": 1}, [[1]], {}])
@pytest.mark.parametrize(
    "place",
    [
        ("network_g", "type"),
        ("datasets", "train", "type"),
        ("datasets", "val", "io_backend", "type"),
        ("train", "pixel_opt", "type"),
        ("train", "optim_g", "type"),
        ("train", "scheduler", "type"),
        ("train", "scheduler", "milestones"),
        ("val", "metrics", "psnr", "type"),
        ("model_type",),
    ],
    ids=":".join,
)
def test_types_that_are_no_names(
    tmp_path: Path, place: tuple[str, ...], value: object, model: str, check: Callable[[Path], str]
) -> None:
    opt = paired_options(tmp_path)
    opt["model_type"] = model
    section = opt
    for key in place[:-1]:
        section = section[key]
    section[place[-1]] = value
    if model == "Nobody" and place[0] == "train":
        option_mistakes(opt)  # of a model that nobody knows, this may mean anything
        return
    file = tmp_path / "x.yml"
    file.write_text(yaml.safe_dump(opt))
    assert f": {': '.join(place)}: must be" in check(file)


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Callable[[Path], str]:
    def check(file: Path) -> str:
        assert main(["check", "-opt", str(file), "--no-timing"]) == 1
        return capsys.readouterr().out

    return check
