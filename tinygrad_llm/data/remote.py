"""Data sets that are downloaded by name, with their addresses and checksums."""

from __future__ import annotations

from tinygrad_llm.backend.download import RemoteFile

_BOOK = "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/"

REMOTE = {
    "tiny-shakespeare": RemoteFile(
        "tiny-shakespeare.txt",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
    "the-verdict": RemoteFile(
        "the-verdict.txt",
        _BOOK + "ch02/01_main-chapter-code/the-verdict.txt",
        "b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
    ),
    "sms-spam": RemoteFile(
        "SMSSpamCollection.tsv",
        "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip",
        "edc1f2ca36319ca36c6f80fede2f6ae5f81335289352485f3924df077ec20266",
        also=("7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d",),
        zip_member="SMSSpamCollection",
    ),
    "instruction-data": RemoteFile(
        "instruction-data.json",
        _BOOK + "ch07/01_main-chapter-code/instruction-data.json",
        "7e09a9af353722ca15c18bc580f093f9c39d3178335a75177319cb1e1d163944",
    ),
}
