"""python -m fastmlp."""

import re
import subprocess
import sys

import pytest

import fastmlp


@pytest.fixture(scope="module")
def printed():
    ran = subprocess.run([sys.executable, "-m", "fastmlp"], check=False, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout.splitlines()


def test_prints_the_notebooks_lines_first(printed):
    assert printed[:5] == [
        "Epoch 0, Loss: 0.6932",
        "Epoch 200, Loss: 0.5338",
        "Epoch 400, Loss: 0.4804",
        "Epoch 600, Loss: 0.4786",
        "Epoch 800, Loss: 0.4781",
    ]


def test_then_compares_with_numpy(printed):
    rest = "\n".join(printed[5:])
    assert "NumPy" in rest
    assert "fastmlp" in rest
    assert "Epoch" not in rest
    differences = [float(number) for number in re.findall(r"\b\d(?:\.\d+)?e-\d+\b", rest)]
    assert "difference" in rest.lower()
    assert 0.0 in differences or min(differences, default=1) <= 1e-12


def test_with_words_it_is_the_command_line():
    ran = subprocess.run([sys.executable, "-m", "fastmlp", "--version"], check=True, capture_output=True, text=True, timeout=60)
    assert ran.stdout == f"fastmlp {fastmlp.__version__}\n"
