"""Packaging. Metadata stands here; tools (ruff, mypy, pytest) are configured in pyproject.toml.

The folder ``kernels/`` stands at the top of the repository because it stands alone: it imports
NumPy, CuPy and Triton, and nothing of the package. It is installed as ``tinygrad_llm.kernels``,
since a top-level package named ``kernels`` would collide with another one on PyPI.

The version is said once, in ``tinygrad_llm/__init__.py``, and the address of the repository once,
as ``repository-code`` in ``CITATION.cff``; both are read from there without importing.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
INIT = (HERE / "tinygrad_llm" / "__init__.py").read_text(encoding="utf-8")
VERSION = re.findall(r'^__version__ = "(.+)"$', INIT, re.MULTILINE)[0]
CITATION = (HERE / "CITATION.cff").read_text(encoding="utf-8")
ADDRESSES = re.findall(r'^repository-code: "?([^"\s]+?)/?"?$', CITATION, re.MULTILINE)
GPU = ["triton>=3.6", "ml_dtypes>=0.5"]
KERNELS = ["tinygrad_llm.kernels"]
KERNELS += [f"tinygrad_llm.kernels.{folder}" for folder in find_packages("kernels")]
DEV = [
    "pytest>=8",
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",
    "ruff>=0.14",
    "mypy>=1.18",
    "selenium>=4.20",
]


def long_description() -> str:
    """The README; where it is shown outside of the repository its links lead into it."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    for address in ADDRESSES:
        inside = r"(?!https?:|#)"
        text = re.sub(rf"(!\[[^]]*\]\(){inside}", rf"\1{address}/raw/v{VERSION}/", text)
        text = re.sub(rf"((?<!!)\[[^]]*\]\(){inside}", rf"\1{address}/blob/v{VERSION}/", text)
    return text


def addresses() -> dict[str, str]:
    """What a package index links to, once the repository has an address."""
    found = {}
    for address in ADDRESSES:
        found["Source"] = address
        found["Changes"] = f"{address}/blob/v{VERSION}/CHANGELOG.md"
        found["Questions"] = f"{address}/issues"
    return found


setup(
    name="tinygrad_llm",
    version=VERSION,
    description="A GPT from tokenizer to chat on NumPy and CuPy, with nothing hidden.",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author="the tinygrad_llm authors",
    project_urls=addresses(),
    license="MIT",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: GPU :: NVIDIA CUDA",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Education",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    keywords=["autograd", "backpropagation", "GPT", "language model", "NumPy", "CuPy", "Triton"],
    python_requires=">=3.10",
    packages=[*find_packages(include=["tinygrad_llm", "tinygrad_llm.*"]), *KERNELS],
    package_dir={"tinygrad_llm.kernels": "kernels"},
    package_data={
        "tinygrad_llm": [
            "py.typed",
            "**/*.json",
            "**/*.tsv",
            "**/*.html",
            "**/*.js",
            "**/*.css",
            "**/*.txt",
        ]
    },
    entry_points={"console_scripts": ["tinygrad-llm = tinygrad_llm.__main__:main"]},
    install_requires=[
        "numpy>=2.1",
        "tiktoken>=0.7",
        "regex>=2024.11.6",
        "google-crc32c>=1.6",
        "safetensors>=0.6.2",
        "tqdm>=4.66",
        "threadpoolctl>=3.5",
        "tomli>=2; python_version < '3.11'",
    ],
    extras_require={
        "cuda": ["cupy-cuda13x>=14", *GPU],
        "cuda12": ["cupy-cuda12x>=14", *GPU],
        "kernels": GPU,
        "plot": ["matplotlib>=3.8"],
        "tensorboard": ["tensorboard>=2.17"],
        "bfloat16": ["ml_dtypes>=0.5"],
        "fast": ["numkong>=7.8,<8", "ml_dtypes>=0.5"],
        "yaml": ["pyyaml>=6"],
        "hub": ["huggingface_hub>=0.30"],
        "distributed": ["mpi4py>=4", "mpich>=4; sys_platform != 'win32'"],
        "docs": [
            "mkdocs-material>=9.5",
            "mkdocstrings[python]>=0.26",
            "jupytext>=1.16",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "ipykernel>=6.29",
            "matplotlib>=3.8",
        ],
        "dev": [
            *DEV,
            "ml_dtypes>=0.5",
            "numkong>=7.8,<8",
            "matplotlib>=3.8",
            "triton>=3.6; sys_platform == 'linux' and platform_machine == 'x86_64'",
            "mpi4py>=4; sys_platform == 'linux' and platform_machine == 'x86_64'",
            "mpich>=4; sys_platform == 'linux' and platform_machine == 'x86_64'",
        ],
        "bench": ["torch>=2.6"],
        "release": ["build>=1.2", "twine>=6"],
    },
)
