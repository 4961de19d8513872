"""The explorer's page in a real browser: clicks, keys, stepping, links, and its numbers."""

import time

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.explain.small_ops import small_ops

keys = pytest.importorskip("selenium.webdriver.common.keys", reason="selenium is not installed")
Keys = keys.Keys


@pytest.fixture
def page(browser, step):
    """The page, freshly opened; afterwards the console must be empty."""
    yield open_page(browser, step.path)
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def open_page(driver, path, hash=""):
    driver.get("about:blank")
    driver.get(path.as_uri() + hash)
    driver.execute_script("return document.fonts.ready")
    return driver


def script(driver, text, *args):
    return driver.execute_script(text, *args)


def find(driver, css):
    """The element, once it is there: rows are drawn after scrolling, on a busy machine later."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 30).until(lambda d: d.find_element("css selector", css))


def shows(driver, css, text):
    """Whether ``text`` stands there, or soon: a click draws the details anew."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    waiting = WebDriverWait(driver, 30, ignored_exceptions=[StaleElementReferenceException])
    return waiting.until(lambda d: text in find(d, css).text)


def texts(driver, css):
    return [e.text for e in driver.find_elements("css selector", css)]


def press(driver, *pressed):
    find(driver, "#tree").send_keys(*pressed)


def test_starts_folded_at_the_first_op(page, step):
    labels = texts(page, ".row .label")
    assert labels[-1] == "cross-entropy · linear_cross_entropy"
    assert "blocks.0" in labels
    assert not any("gelu" in label for label in labels)
    assert script(page, "return explorer.position()") == 1
    assert find(page, "#event").text.startswith("forward 1 of")
    assert find(page, ".row[aria-selected=true] .label").text == "token_embedding · embedding"
    assert find(page, "#detail .intro h2").text.startswith("One training step")
    find(page, "#title").click()
    overview = find(page, "#detail").text
    assert f"loss (cross-entropy)\n{step.loss.item():.4g}" in overview
    assert not page.find_elements("css selector", ".intro")
    assert f"{len(step.trace.ops)}, in {len(step.trace.events)} events" in overview
    find(page, "#detail [data-step=start]").click()
    assert script(page, "return explorer.position()") == 0
    find(page, "#title").click()
    assert find(page, "#detail h2").text == "Backpropagation, step by step"
    assert len(labels) < 12 < len(step.trace.ops)


def test_click_unfolds_down_to_single_ops_and_folds_again(page):
    before = len(texts(page, ".row"))
    script(
        page,
        "[...document.querySelectorAll('.row')].find("
        "r => r.textContent.includes('blocks.1')).click()",
    )
    assert "attention" in texts(page, ".row .label")
    find(page, ".row.group[aria-expanded=false] .label").click()
    script(
        page,
        "[...document.querySelectorAll('.row')].filter("
        "r => r.textContent.includes('feed_forward')).at(-1).click()",
    )
    assert "gelu" in texts(page, ".row .label")
    find(page, "#fold-all").click()
    assert len(texts(page, ".row")) == before
    find(page, "#unfold-all").click()
    rows = "return explorer.rows().filter(r => explorer.data.nodes[r.node]?.name === 'gelu').length"
    assert script(page, rows) == 2


def test_every_number_in_the_page_is_the_engines(page, step):
    """Read back through the page's own decoder."""
    read = "return [...explorer.values(arguments[0])]"
    leaves = script(page, "return explorer.data.leaves")
    parameters = dict(step.model.named_parameters())
    assert {leaf["name"] for leaf in leaves} == set(parameters)
    for leaf in leaves:
        p = parameters[leaf["name"]]
        np.testing.assert_array_equal(np.float32(script(page, read, leaf["value"])), p.data.ravel())
        grad = np.array(script(page, read, leaf["gradient"]))
        right = step.gradients[leaf["name"]].ravel()
        np.testing.assert_allclose(grad, right, rtol=1e-5, atol=1e-9)
    results = script(page, "return explorer.data.nodes.map(node => node.outputs)")
    for refs, op in zip(results, step.trace.ops, strict=True):
        for ref, y in zip(refs, op.values.outputs, strict=True):
            np.testing.assert_array_equal(np.float32(script(page, read, ref)), np.ravel(y))


def test_numbers_shown_are_those_of_the_array(browser, step):
    page = open_page(browser, step.path, "#leaf=final_norm.weight")
    find(page, "#detail .card button").click()
    shown = [float(x) for x in texts(page, "#detail .card:first-child td")]
    p = dict(step.model.named_parameters())["final_norm.weight"]
    np.testing.assert_allclose(shown, p.data, rtol=1e-3)


def test_stepping_walks_the_events_and_states_follow(page, step):
    find(page, "[data-step=start]").click()
    states = "return [...Array(explorer.data.nodes.length).keys()].map(explorer.nodeState)"
    assert set(script(page, states)) == {"future"}
    n = len(step.trace.ops)
    for _ in range(n):
        press(page, Keys.SHIFT + Keys.ARROW_RIGHT)
        # the modifier stays down in send_keys until it is released
        press(page, Keys.NULL)
    now = script(page, states)
    assert now[-1] == "complete", "the loss's own gradient is 1"
    assert set(now[:-1]) == {"forward"}
    script(page, "for (let i = 0; i < 6; i++) explorer.step('into')")
    assert script(page, states)[-1] == "walked"
    assert "partial" in script(page, states), "one branch into the residual stream has arrived"
    assert "backward 6 of" in find(page, "#event").text
    script(page, "explorer.step('end')")
    assert set(script(page, states)) == {"walked"}


def test_a_folded_module_is_one_step(page):
    find(page, "[data-step=start]").click()
    positions = []
    for _ in range(6):
        press(page, Keys.ARROW_RIGHT)
        positions.append(script(page, "return explorer.position()"))
    assert positions[:4] == [1, 2, 3, 4]
    assert positions[4] - positions[3] == 12, "block 0, folded"
    press(page, Keys.ARROW_LEFT)
    assert script(page, "return explorer.position()") == positions[4]
    assert find(page, ".row[aria-selected=true] .label").text == "blocks.0"


def test_partial_sum_is_shown_until_the_gradient_is_complete(browser, step):
    residual = next(op for op in step.trace.ops if op.name == "add" and len(op.arrived) > 1)
    first = step.trace.ops[residual.arrived[0].source]
    page = open_page(browser, step.path, f"#node={residual.index}&step={first.backward_step + 1}")
    assert "1 of 2 have arrived" in find(page, "#detail").text
    assert "sum so far" in find(page, "#detail").text
    find(page, "[data-step=end]").click()
    open_page(page, step.path, f"#node={residual.index}")
    assert "2 of 2 have arrived" in find(page, "#detail").text
    assert "dy, complete" in find(page, "#detail").text


def test_search_and_keys(page):
    press(page, "/")
    search = find(page, "#search")
    search.send_keys("blocks.1 gelu")
    assert any("blocks.1.feed_forward.gelu" in t for t in texts(page, "#found div"))
    search.send_keys(Keys.ENTER)
    assert find(page, "#detail h2").text == "GELU"
    assert find(page, ".row[aria-selected=true] .label").text == "gelu"
    press(page, "k")
    assert find(page, "#detail h2").text == "linear"
    press(page, "c")
    assert "gelu" not in texts(page, ".row .label")
    press(page, "?")
    assert find(page, "#help").is_displayed()
    find(page, "#help button").click()
    search.send_keys("no such op")
    assert texts(page, "#found div") == ["nothing found"]


def test_deep_links(browser, step):
    page = open_page(browser, step.path, "#node=blocks.0.norm1.layer_norm&step=20")
    assert find(page, "#detail h2").text == "layer norm"
    assert script(page, "return explorer.position()") == 20
    page = open_page(browser, step.path, "#module=blocks.1")
    assert find(page, "#detail h2").text == "blocks.1"
    assert shows(page, "#detail", "Parameters")
    find(page, "#detail table.list a").click()
    assert shows(page, "#detail .path", "a leaf")
    find(page, "#detail .card a").click()
    assert shows(page, "#detail", "Forward")
    time.sleep(0.3)
    assert "#node=" in page.current_url


def test_keys_after_the_slider_and_after_a_speed(page):
    slider = find(page, "#position")
    before = script(page, "return explorer.position()")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert script(page, "return explorer.position()") == before + 1, "one event, not two"
    slider.send_keys("e")
    assert script(page, "return explorer.rows().some(row => row.open)"), (
        "letters are keys here, too"
    )
    speed = "const s = document.getElementById('speed'); s.focus();"
    script(page, speed + "s.dispatchEvent(new PointerEvent('pointerdown'));")
    script(page, "document.getElementById('speed').dispatchEvent(new Event('change'))")
    assert script(page, "return document.activeElement.id") == "tree"


def test_the_tree_names_its_chosen_row(page):
    press(page, Keys.ARROW_DOWN)
    chosen = find(page, "#tree").get_attribute("aria-activedescendant")
    assert find(page, f"#{chosen}").get_attribute("aria-selected") == "true"


def test_ignored_targets_are_neither_right_nor_wrong(browser, step, tmp_path):
    targets = step.targets.copy()
    targets[0, :2] = -100
    with tg.trace(values=True) as t:
        step.model.loss(step.ids, targets).backward()
    page = open_page(browser, tg.explore(t, tmp_path / "ignored.html"))
    rows = page.find_elements("css selector", "#text tr")
    cells = [row.find_elements("css selector", "td") for row in rows]
    assert [cell.text for cell in cells[2][:3]] == ["–", "–", str(targets[0, 2])]
    assert [cell.get_attribute("class") for cell in cells[1][:2]] == ["", ""]
    assert cells[1][2].get_attribute("class") in ("right", "wrong")


def test_index_and_value_under_the_pointer(browser, step):
    page = open_page(browser, step.path, "#leaf=token_embedding.weight")
    box = "const c = document.querySelector('#detail canvas'), b = c.getBoundingClientRect();"
    event = (
        "c.dispatchEvent(new PointerEvent('pointermove', {clientX: b.left + b.width * 2.5 / 8,"
        " clientY: b.top + b.height * 4.5 / 17}));"
    )
    read = "return document.querySelector('#detail .read').innerText"
    text, place = script(page, box + event + read).split("\n")
    assert place == "vocabulary 4, channel 2"
    index, value = text.split(" = ")
    assert index == "[4, 2]"
    p = dict(step.model.named_parameters())["token_embedding.weight"]
    assert float(value) == pytest.approx(p.data[4, 2], rel=1e-6)


def test_readable_on_a_phone(phone, step):
    page = open_page(phone, step.path, "#node=9")
    width = script(page, "return document.documentElement.scrollWidth")
    assert width <= 390, "no sideways scrolling"
    tree, detail = (find(page, f"#{name}").rect for name in ("tree", "detail"))
    assert detail["y"] >= tree["y"] + tree["height"] - 1, "one below the other"
    assert tree["height"] > 200
    assert detail["height"] > 200
    row = find(page, ".row").rect
    assert row["height"] >= 36, "a finger hits it"
    assert page.get_log("browser") == []


def test_two_thousand_ops(browser, tmp_path):
    """Only the rows in view are in the document, whatever the size of the graph."""
    model = tg.nn.GPT(
        tg.nn.GPTConfig(vocab_size=7, context_length=3, n_layer=36, n_head=1, n_embd=2)
    )
    with small_ops(), tg.trace(values=True) as t:
        model.loss([[0, 1, 2]], [[1, 2, 3]]).backward()
    assert len(t.ops) >= 2000
    page = open_page(browser, tg.explore(t, tmp_path / "big.html", model=model))
    find(page, "#unfold-all").click()
    assert script(page, "return explorer.rows().length") > 2000
    assert len(texts(page, ".row")) < 80
    script(page, "explorer.step('start'); for (let i = 0; i < 50; i++) explorer.step('into')")
    assert script(page, "return explorer.position()") == 50
    script(page, "explorer.goTo('op', 1500)")
    assert find(page, ".row[aria-selected=true]").is_displayed()
    assert page.get_log("browser") == []
