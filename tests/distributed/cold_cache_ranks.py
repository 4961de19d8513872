"""Run by mpiexec: trains on a corpus that is downloaded first, from the address that is given."""

import sys

from tinygrad_llm.backend.download import RemoteFile
from tinygrad_llm.commands.train import main
from tinygrad_llm.data.remote import REMOTE

url, sha256, *flags = sys.argv[1:]
REMOTE["the-verdict"] = RemoteFile("the-verdict.txt", url, sha256)
sys.exit(main(flags))
