"""One word for one idea, in the field's American English: in code, texts and documentation."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

WORDS = {
    r"mend(s|ed|ing)?": "patch (of BasicSR) or fix",
    r"enlarge(s|d|r|rs|ment|ments)?|enlarging": "upscale",
    r"data sets?": "dataset",
    r"draws": "sampled parameters, or samples",
    r"colou?ur\w*": "color",
    r"gr[e]y": "gray",
    r"neighbour\w*": "neighbor",
    r"cent(re|res|red)": "center",
    r"behaviour\w*": "behavior",
    r"licence": "license",
    r"\w*(optim|normal|initial|recogn|symmetr|summar|organ)is(e|es|ed|ing|er|ers|ation|ations)": "-ize",
    r"\w*(random|capital)is(e|es|ed|ing|ation)": "-ize",
    r"(to|after|up|down|back)wards": "without s",
    r"(mis)?spelt|learnt|whilst|amongst": "misspelled, learned, while, among",
    r"anew": "again",
    r"(labell|modell|cancell)(ed|ing)": "one l",
    r"free scale": "any-scale",
    r"told|tells": "say what the thing does or holds",
    r"by heart|of the house|to be had": "plain words",
}
"""What is not written, as a regular expression of whole words, and what is written instead."""

# Names that are not ours to choose: BasicSR's, Pillow's, FFmpeg's, or those that users type already.
KEPT = (
    "EnlargedSampler",
    "enlarge_ratio",
    "LMLT_MENDS",
    "LMLT_SKIP_MENDS",
    "lmlt: mends",
    "lmlt: {mends",
    '"mends"',
    "mends: Literal",
    "data-sets-that-say-what-they-lack",
    "data_sets_that_say_what_they_lack",
    "draws.csv",
    "grey16",
    # Old names, which go in 0.3.
    "_FreeScale",
    "free_scale",
    "enlarge_planes",
    "def enlarge(",
    "enlarge is ",
    "_enlarge_",
    "Upscaler.enlarge",
    "upscaler.enlarge(",
    "model.enlarge(",
    "super().enlarge(",
    "enlarge=twice",
    "degradation.Draws",
    '"Draws is now',
    '"draws", "sample"',
)
# The words themselves, recorded results, and files that stay as they are to the letter.
APART = (
    "tests/test_words.py",
    "options/",
    "scripts/options/",
    "CHANGELOG.md",
    "lmlt_arch/renamed.py",
    "lmlt_arch/models/former_names.py",
    "lmlt_arch/inference/video/__init__.py",
    "tests/test_renamed.py",
)
TEXTS = (".py", ".md", ".sh", ".toml", ".html", ".css", ".cff")


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.splitlines()
    return [name for name in names if name.endswith(TEXTS) and not name.startswith(APART)]


def apart(text: str) -> str:
    """Names divided into words: `any_size` and `AnySize` are two."""
    return re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", text)


def without_kept(text: str) -> str:
    for name in KEPT:
        text = text.replace(name, "")
    return text


def mistakes(text: str) -> list[str]:
    """`line: word: write this` for each word of a text that has a better one."""
    text = apart(without_kept(text))
    found = [
        (text.count("\n", 0, match.start()) + 1, match.group(), instead)
        for pattern, instead in WORDS.items()
        for match in re.finditer(rf"\b(?:{pattern})\b", text, re.IGNORECASE)
    ]
    return [f"{line}: {word}: {instead}" for line, word, instead in sorted(found)]


@pytest.mark.parametrize("name", tracked())
def test_words(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for fixed in fixed_texts():
        text = text.replace(fixed, "")
    assert mistakes(text) == []


@cache
def fixed_texts() -> list[str]:
    """Descriptions that are written into `options/schema.json`, which editors have by now."""
    schema = (ROOT / "options/schema.json").read_text(encoding="utf-8")
    return sorted(set(re.findall(r'"description": "(.*)"', schema)), key=len, reverse=True)


def test_sees_words_in_names_too() -> None:
    assert mistakes("x = FreeScale()\n# A data set is enlarged.\ndata_set = Mends") == [
        "1: Free Scale: any-scale",
        "2: data set: dataset",
        "2: enlarged: upscale",
        "3: Mends: patch (of BasicSR) or fix",
        "3: data set: dataset",
    ]
    assert mistakes("EnlargedSampler, recommended, LMLT_MENDS, dataset_enlarge_ratio") == []
