"""The training step on a GPU, as benchmarks/train_gpu.py and gpu_model.py judge it."""

import pytest


def test_the_model_of_a_step_counts_what_formulas_say(benchmarks):
    import gpu_model
    from train_sizes import Size

    layers, c, context, batch, v = 2, 32, 128, 5, 70
    size = Size(layers, 2, c, context, 1, v, 1)
    work = gpu_model.count(size, batch)
    rows = batch * context
    products = ("linear", "feed_forward", "linear_cross_entropy")
    flops = sum(w.flops for name, w in work.items() if name.split()[0] in products)
    assert flops == pytest.approx(6 * rows * (12 * layers * c * c + v * c))
    assert work["attention_qkv forward"].flops == pytest.approx(2 * layers * rows * context * c)
    assert work["attention_qkv forward"].bytes == pytest.approx(layers * rows * 4 * c * 2)
    size = Size(layers, 2, c, context, 1, v, 1)
    one_pass, pair = work, gpu_model.count(size, batch, ["one pass"])
    flops = [
        w["attention_qkv backward"].flops / (layers * rows * context * c) for w in (one_pass, pair)
    ]
    assert flops == pytest.approx([5, 7])
    assert one_pass["dQ in float32"].bytes == pytest.approx(8 * layers * rows * c)
    assert "dQ in float32" not in pair
    assert work["layer_norm forward"].calls + work["add_layer_norm forward"].calls == 2 * layers + 1


def test_losses_of_random_ids_are_judged_by_what_can_be_learned(benchmarks):
    import train_gpu

    for batch, gain in ((32, 0.95), (64, 0.57)):
        size = train_gpu.gpt2(batch)
        floor = size.unigram_entropy()
        assert 10.95 - floor == pytest.approx(gain, abs=0.01)
        right = {"losses": [10.95, 10.9, floor + 0.3 * gain]}
        stuck = {"losses": [10.95, 10.94, 10.95 - 0.1 * gain]}
        assert train_gpu._wrong([right], size) == ""
        assert "only fell" in train_gpu._wrong([right, stuck], size)
    assert "first loss" in train_gpu._wrong([{"losses": [9.0, 5.0]}], size)
    assert "first loss" in train_gpu._wrong([{"losses": [10.9, float("nan")]}], size)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("", {"times": [1.0], "losses": []}),
        ("raise OSError('no GPU')", {"problem": "OSError: no GPU"}),
    ],
)
def test_a_worker_is_heard_before_it_ends(benchmarks, tmp_path, monkeypatch, end, expected):
    """A stage that is stopped at its limit leaves in its log how far it came."""
    import train_gpu

    script, heard = tmp_path / "worker.py", tmp_path / "heard"
    script.write_text(
        f"""
import pathlib, sys, time
print("begun", flush=True)
while not pathlib.Path({str(heard)!r}).exists(): time.sleep(0.01)
print('{{"times": [1.0], "losses": []}}', flush=True)
print("a library says goodbye", file=sys.stderr)
{end}
""",
        encoding="utf-8",
    )

    def printed(line, **options):
        heard.touch()
        said.append(line)

    said = []
    monkeypatch.setattr(train_gpu, "print", printed, raising=False)
    monkeypatch.setattr(train_gpu, "python_file", lambda name: str(script))
    assert train_gpu.run_once("ours", 32, 1) == expected
    assert said[:2] == ["begun\n", "a library says goodbye\n"]


def test_cards_by_their_names():
    from tinygrad_llm.training.report import utilization as chips

    assert chips.card("NVIDIA H100 80GB HBM3") == "H100"
    assert chips.card("NVIDIA H200") == "H200"
    for other in (
        "NVIDIA H100 PCIe",
        "NVIDIA H100 NVL",
        "NVIDIA H200 NVL",
        "NVIDIA GH200 480GB",
        "NVIDIA A100-SXM4-80GB",
        "",
    ):
        assert chips.card(other) is None
    assert chips.MEASURED["H200"][0] > chips.MEASURED["H100"][0]
    assert all(
        1e12 * tera < chips.peak_flops(f"NVIDIA {kind}")
        for kind, (_, tera) in chips.MEASURED.items()
    )
