"""The board by itself, on a page with nothing else: no explorer, no server, no network."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clusters import in_a_row, on_a_line as two_numbers, outcomes, speed
from copying import roles_of
from playwright.sync_api import BrowserContext, Page, expect

from cahp.board import BoardSubject, FirstScreen, Host, Shown, contents, script, style
from cahp.board.budget_sweep import BudgetTable, Speed
from cahp.board.colourings import Coloured
from cahp.board.contents import Sentence, SentenceAnswer, WordMaps
from cahp.board.head_clusters import HeadClusters
from cahp.features.roles.section import mark_roles
from cahp.models.cards import CacheShape
from cahp.run.settings import Settings
from cahp.stages.similarity import Arc
from cahp.ui.parts.budget_board import _sources
from cahp.values import Estimate, HeadMask

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>board</title>
<style>:root {{ color-scheme: light dark }} {style}</style><body><div id="here"></div>
<script type="module">{script}</script></body></html>"""

#: What stands in for a host: it keeps what it is told.
HOST = """
window.told = [];
window.titles = [];
window.data = {data};
const title = (text, dragging) => window.titles.push([text, dragging]);
window.board = mount(document.getElementById("here"), data, (what) => window.told.push(what), title);
"""


def on_a_line() -> HeadClusters:
    """Six heads; through their curve, at two numbers of clusters, no polynomial goes."""
    found = two_numbers()
    return replace(found, clustering=replace(found.clustering, knee_rule="by hand"))


def table_of(clusters: HeadClusters, recover: str = "none") -> BudgetTable:
    return BudgetTable(clusters.selections(Settings()), recover=recover)


def given(
    clusters: HeadClusters,
    table: BudgetTable,
    budget: int,
    shown: dict[str, Any] | None = None,
    *,
    other: BudgetTable | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Return what a board is given that shows a budget, with changed fields of what is ``shown``."""
    selection = table.selection(budget)
    fields = {"mask": selection.mask, "origin": "budget", "outcomes": None, "speed": None, "rescued": selection.rescued}
    now = Shown(**fields | (shown or {}))
    labels = clusters.groups(selection.k)[0]
    subject = BoardSubject(**{name: options.pop(name) for name in ("chance", "cache") if name in options})
    return contents(table, clusters, now, labels=labels, subject=subject, host=Host(**options), other=other)


def data_of(clusters: HeadClusters, budget: int, **options: Any) -> dict[str, Any]:
    """What a board of these clusters is given, all budgets but a few estimated."""
    table = table_of(clusters)
    table.add(table.budgets[-1], outcomes=outcomes(0.9))
    table.add(table.budgets[0], outcomes=outcomes(0.5), speed=speed(0.6))
    return given(clusters, table, budget, **options)


@pytest.fixture
def bare(new_context: Callable[..., BrowserContext], tmp_path: Path) -> Callable[..., Page]:
    """``bare(data)`` is a page with a board of these data; any error on it fails the test."""

    def opened(data: dict[str, Any], **options: Any) -> Page:
        host = HOST.format(data=json.dumps(data))
        file = tmp_path / "board.html"
        file.write_text(PAGE.format(style=style(), script=script(host)), encoding="utf-8")
        page = new_context(**options).new_page()
        page.on("pageerror", lambda error: pytest.fail(f"the page failed: {error}"))
        page.goto(file.as_uri())
        return page

    return opened


def figures(page: Page) -> list[str]:
    return page.locator(".figure .value").all_inner_texts()


def gains(page: Page) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(".gain").all_inner_texts()]


def heads(page: Page, which: str) -> set[int]:
    """The heads whose cells have a class."""
    return {int(one.get_attribute("data-head") or 0) for one in page.locator(f".cell.{which}").all()}


def drag(page: Page, share: float, *, press: bool = False) -> None:
    """Move the mouse to a place on the slider, and perhaps press it there."""
    box = page.locator("input.slider").bounding_box()
    page.mouse.move(box["x"] + 9 + (box["width"] - 18) * share, box["y"] + box["height"] / 2)
    if press:
        page.mouse.down()


def test_a_time_that_could_as_well_be_the_same_is_not_put_forward_as_a_saving(bare: Callable[..., Page]) -> None:
    clusters = in_a_row(6, 12)
    ratio = Estimate(0.96, (0.9, 1.02), 40, "ratio")
    clear = replace(ratio, ci95=(0.94, 0.98))
    cases = (("no measurable change", ratio, False), ("0.96 ×", clear, False), ("unreliable", clear, True))
    for text, measured, busy in cases:
        page = bare(given(clusters, table_of(clusters), 30, {"speed": Speed(measured, 10.0, 9.6, busy=busy)}))
        assert figures(page)[-1] == text
        expect(page.locator(".figure").last).to_contain_text(
            re.compile(f"{measured.low:.2f} to .*, n = 40 rounds{'.*the machine was busy' * busy}")
        )


def test_a_language_model_shows_its_cache_in_place_of_the_time(bare: Callable[..., Page]) -> None:
    page = bare(data_of(in_a_row(6, 12), 18, cache=CacheShape(head=512)))
    assert figures(page)[-1] == "9,216"
    expect(page.locator(".figure").last).to_contain_text("0.25 × the full model's 36,864")
    expect(page.get_by_text("KV cache per token (× the full model's)")).to_be_visible()
    expect(page.get_by_text("Time per batch")).to_have_count(0)
    drag(page, 1.0, press=True)
    page.mouse.up()
    expect(page.locator(".figure").last).to_contain_text("full model")


def test_figures_and_finding_follow_while_dragging_and_a_release_sends_the_budget(bare: Callable[..., Page]) -> None:
    clusters = in_a_row(6, 12)
    # The mask on the board keeps all 72 heads; budgets begin with 6.
    data = data_of(clusters, 72, titles=["all", *(f"{budget} heads" for budget in range(6, 73))])
    page = bare(data)
    read_out = page.locator(".unseen[aria-live=polite]")
    assert page.evaluate("titles") == [["all", False]]
    expect(read_out).to_have_text("all")
    drag(page, 1.0, press=True)
    drag(page, 0.5)
    # Half-way between 6 and 72; half-way between 50 % and 90 % right, which is not measured.
    assert figures(page) == ["39 of 72", "≈ 70.0 %", "≈ 90.0 %", "≈ 0.80 ×"]
    assert page.get_by_role("gridcell", selected=True).count() == 39
    assert page.evaluate("titles.at(-1)") == ["39 heads", True]
    expect(read_out).to_have_text("all")
    assert page.evaluate("told") == []
    page.mouse.up()
    page.wait_for_function("told.length")
    assert page.evaluate("told") == [{"kind": "budget", "budget": 39}]
    page.evaluate("data => board.update(data)", {**data, "titles": ["released", *data["titles"][1:]]})
    assert page.evaluate("titles.at(-1)") == ["released", False]
    expect(read_out).to_have_text("released")
    # A goal is a line that goes down to what may be lost. Only 6 and 72 heads are measured.
    goal = page.get_by_role("slider", name="Goal for the accuracy")
    goal.press("ArrowDown")
    assert goal.get_attribute("aria-valuetext") == "lose at most 0.5 points: 72 heads"
    for _ in range(120):
        goal.press("ArrowDown")
    page.wait_for_function("told.length === 2")
    assert page.evaluate("told[1]") == {"kind": "budget", "budget": 6}


def test_on_the_first_screen_gains_follow_while_dragging_and_details_are_closed(bare: Callable[..., Page]) -> None:
    values = [f"{budget} cost" for budget in (72, *range(6, 73))]
    page = bare(data_of(in_a_row(6, 12), 72, titles=values, first=FirstScreen(), details=False))
    assert gains(page) == ["0 points of accuracy", "0 % time"]
    drag(page, 1.0, press=True)
    drag(page, 0.5)
    # Half-way between 50 % and 90 % right with all, and between 0.6 and 1 of the time; neither is measured.
    assert gains(page) == ["≈ −20.0 points of accuracy", "≈ −20 % time"]
    page.mouse.up()


def test_a_sentence_has_the_arcs_of_the_kept_heads_and_its_answer_follows_the_slider(bare: Callable[..., Page]) -> None:
    clusters = on_a_line()
    looks = np.zeros((6, 3), np.uint8)
    looks[[1, 4], 1] = 200
    # The second pair of head 0 is that of head 1, whose attention is stronger.
    strong, alone, last = (Arc(0, 1, 0.9), Arc(2, 0, 0.3)), (Arc(1, 2, 0.4),), (Arc(0, 2, 0.8),)
    arcs = ((Arc(0, 1, 0.5),), strong, (), alone, (), last)
    answers = [SentenceAnswer(name, 0.8) for name in ("tech", "tech", "<i>sports", "<i>sports", "<i>sports")]
    maps = WordMaps(("<b>one", "two", "three"), 3, arcs, looks)
    own = SentenceAnswer("<i>sports", 0.95)
    sentence = Sentence(maps, (2, 3, 4, 5, 6), answers, answers[-1], own, "after refit", over="as pruned")
    rests = ["first", "Rests on the first token", "the first token", 0.86]
    facts = {"roles": [rests] * 3 + [["none", *rests[1:3], 0.3]] * 3, "removals": {"5": {"value": 0.9, "n": 50}}}
    first = FirstScreen(sentence=sentence)
    page = bare(data_of(clusters, 3, titles=["cost"] * 6, first=first, details=False, facts=facts))
    shown, answer = page.locator(".arcs g[data-head]:not(.falling)"), page.locator(".answers")
    notes, inspector, cells = page.locator(".notes"), page.locator(".inspector"), page.get_by_role("gridcell")
    assert page.locator(".word").all_inner_texts() == ["<b>one", "two", "three"]
    # The budget keeps the heads 1, 3 and 5.
    expect(shown).to_have_count(4)
    expect(answer).to_contain_text("Same answer: <i>sports")
    expect(answer).to_contain_text("Kept, after refit95 %")
    expect(page.locator(".flips")).to_contain_text("at 3 your answer becomes tech, as pruned")
    # Of the pair that head 1 attends to, too, the arc is that of the head that stands out.
    cells.nth(0).hover()
    assert [arc.get_attribute("data-head") for arc in page.locator(".arcs g.strong[data-head]").all()] == ["0"]
    expect(notes).to_have_text("50 %")
    # An arc that is pointed at tells its head, and a click selects it; its arcs stay when the pointer is elsewhere.
    page.mouse.move(5, 700)
    arc = page.locator("g[data-head='5'] .hit")
    arc.dispatch_event("mouseover")
    assert heads(page, "lit") == {5}
    expect(notes).to_have_text("1.2 · 80 %")
    arc.dispatch_event("click")
    page.locator(".arcs").dispatch_event("mouseleave")
    cells.nth(1).hover()
    expect(notes).to_have_text("80 %")
    told = "No single role30 % to the first token<b>one → three 80 %Without it, 5 of 50 answers change"
    expect(inspector.locator(".told")).to_have_text(told)
    # A head without arcs says why, and one that rests on the first token has its arc to the start.
    for head, reason in ((4, "No word here gets more than 78 %"), (2, "Nothing to draw in this sentence")):
        cells.nth(head).click()
        expect(inspector).to_contain_text(reason)
        expect(notes).to_contain_text("nothing to draw")
        expect(notes.locator("path")).to_have_count(int(head == 2))
    expect(notes).to_have_text("[start]0.2 rests on the first token (86 %): nothing to draw")
    page.keyboard.press("Escape")
    page.locator(".word").nth(1).hover()
    expect(shown).to_have_count(4)
    assert heads(page, "lit") == {1, 4}
    expect(page.locator(".arcs g.away")).to_have_count(3)
    # An update of the host while it is pointed at leaves the light.
    page.evaluate("board.update(data)")
    assert heads(page, "lit") == {1, 4}
    drag(page, 0.25, press=True)
    drag(page, 0.0)
    expect(answer).to_contain_text("<i>sports becomes tech")
    expect(answer).to_contain_text("Kept, as pruned80 %")
    assert shown.count() < 4
    drag(page, 1.0)
    expect(shown).to_have_count(4)
    expect(page.locator(".arcs g[data-head='0']")).to_have_count(0)
    expect(answer).to_contain_text("Same answer")
    page.mouse.up()


@pytest.mark.parametrize("recover", ["none", "refit", "distill"])
def test_marks_of_the_pruned_model_and_its_recovery_stand_together(bare: Callable[..., Page], recover: str) -> None:
    clusters = in_a_row(6, 12)
    shown, other = table_of(clusters, recover), table_of(clusters, "refit" if recover == "none" else "none")
    for table, share in ((shown, 0.5), (other, 0.8)):
        table.add(72, outcomes=outcomes(0.9))
        table.add(18, outcomes=outcomes(share))
    both = {"outcomes": outcomes(0.5), "beside": ("beside", outcomes(0.8))}
    page = bare(given(clusters, shown, 18, both, other=other))
    plot = page.locator(".plots svg").first
    dot, ring = plot.locator(".spot:not(.ring)"), plot.locator(".spot.ring")
    # A lower accuracy is lower on the screen, and its y is larger.
    heights = [float(str(mark.get_attribute("cy"))) for mark in (dot, ring)]
    assert (heights[0] > heights[1]) is (recover == "none")
    filled = ring.evaluate("mark => getComputedStyle(mark).fill === getComputedStyle(mark).stroke")
    assert filled is (recover == "distill")
    drag(page, 18 / 66, press=True)
    drag(page, 0.9)
    # Neither is measured there: one is estimated, the other left out.
    expect(dot if recover != "none" else ring).to_have_attribute("visibility", "hidden")
    page.mouse.up()


def test_a_click_selects_a_head_and_changes_no_figure_until_it_is_removed(bare: Callable[..., Page]) -> None:
    page = bare(data_of(in_a_row(6, 12), 40, cards=True))
    cells, inspector, before = page.get_by_role("gridcell"), page.locator(".inspector"), figures(page)
    empty, box = re.compile("goes"), inspector.bounding_box()
    cells.nth(3).click()
    expect(inspector.locator(".who")).to_contain_text("Layer 0, head 3")
    assert (figures(page), inspector.bounding_box(), page.evaluate("told")) == (before, box, [])
    # An update of the host leaves it; a second click and Escape release it, and arrow keys select.
    page.evaluate("board.update({...data})")
    expect(cells.nth(3)).to_have_attribute("aria-current", "true")
    cells.nth(3).click()
    expect(inspector).to_have_class(empty)
    page.keyboard.press("ArrowDown")
    expect(inspector.locator(".who")).to_contain_text("Layer 1, head 3")
    page.keyboard.press("Escape")
    expect(inspector).to_have_class(empty)
    cells.nth(3).dblclick()
    # The figures move before the host answers; the nearest measured budget is the smallest.
    assert figures(page)[0] in ("39 of 72", "41 of 72")
    assert figures(page)[1] == "≈ 50.0 %"
    # A host that refuses it sends the board as it was.
    page.evaluate("board.update({...data})")
    assert figures(page)[0] == "40 of 72"
    # It may know of the removed head only once another one is selected.
    page.keyboard.press("ArrowRight")
    page.evaluate("board.update({...data, selected: 3})")
    expect(inspector.locator(".who")).to_contain_text("Layer 0, head 4")
    cells.nth(3).click()
    page.keyboard.press("Space")
    inspector.get_by_role("button", name=re.compile("Remove|Restore")).click()
    inspector.get_by_role("button", name="Open card").click()
    cells.nth(5).click(modifiers=["Shift"])
    for key in ("ArrowDown", "Enter", "i"):
        page.keyboard.press(key)
    toggled, asked = ({"kind": kind, "head": 3} for kind in ("toggle", "ask"))
    assert page.evaluate("told") == [*[toggled] * 3, asked, *({**asked, "head": head} for head in (5, 17, 17))]


def test_keys_find_a_head_undo_and_are_listed(bare: Callable[..., Page]) -> None:
    page = bare(data_of(in_a_row(6, 12), 40, cards=True))
    inspector, finder = page.locator(".inspector"), page.locator(".finder")
    page.get_by_role("gridcell").first.focus()
    page.keyboard.press("/")
    page.keyboard.type("3.")
    expect(page.locator(".cell.lit")).to_have_count(12)
    page.keyboard.type("6")
    expect(inspector.locator(".who")).to_contain_text("Layer 3, head 6")
    page.keyboard.type("6")
    expect(finder).to_contain_text("There is no 3.66; the last one is 5.11")
    page.keyboard.press("Enter")
    expect(finder).to_be_hidden()
    expect(page.get_by_role("gridcell").nth(42)).to_be_focused()
    # Nothing to undo is nothing to tell.
    page.keyboard.press("Control+z")
    page.evaluate("board.update({...data, steps: {undo: true}})")
    page.keyboard.press("Control+z")
    assert page.evaluate("told") == [{"kind": "undo"}]
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_contain_text("Find a head")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    assert "empty" not in (inspector.get_attribute("class") or "")


def test_what_is_not_measured_yet_has_the_estimate_unless_made_by_hand(bare: Callable[..., Page]) -> None:
    clusters = on_a_line()
    table = table_of(clusters)
    table.add(6, outcomes=outcomes(0.9))
    glimpse = {"accuracy": Estimate(0.5, None, 104, "share")}
    own = table.selection(3).mask
    for mask, origin, part, said in (
        (own, "budget", glimpse, "≈ 50.0 %.*estimated from the first 104 texts.*Answering the texts: 2 of 9"),
        (HeadMask(~own.keep), "hand", None, "–.*Answering the texts: 2 of 9"),
    ):
        shown = {"mask": mask, "origin": origin, "glimpse": part}
        page = bare(given(clusters, table, 3, shown, status="Answering the texts: 2 of 9"))
        expect(page.locator(".figure").nth(1)).to_contain_text(re.compile(said, re.DOTALL))


def test_a_removed_board_leaves_nothing_and_one_whose_call_was_overtaken_stays(bare: Callable[..., Page]) -> None:
    data = data_of(on_a_line(), 3)
    page = bare(data)
    left = page.evaluate(
        """async ([script, data]) => {
          const { default: draw } = await import(`data:text/javascript,${encodeURIComponent(script)}`);
          const parentElement = document.body.appendChild(document.createElement("div"));
          const again = () => draw({ data, parentElement, setTriggerValue: () => {} });
          const leave = [again(), again()], left = [];
          for (const end of leave) end(), left.push(parentElement.childElementCount);
          parentElement.remove();
          leave[1]();
          return [...left, parentElement.childElementCount];
        }""",
        [_sources()[0], data],
    )
    assert left == [1, 1, 0]


def test_heads_the_slider_and_the_curves_say_what_they_show_and_light_what_is_alike(bare: Callable[..., Page]) -> None:
    page = bare(data_of(on_a_line(), 3))
    cells = page.get_by_role("gridcell")
    expect(page.get_by_role("grid", name="2 layers of 3 heads")).to_be_visible()
    names = [cell.get_attribute("aria-label") for cell in cells.all()]
    assert names[:2] == ["Layer 0, head 0: pruned, cluster A", "Layer 0, head 1: kept, cluster A"]
    slider = page.get_by_role("slider", name="Heads to keep")
    assert slider.get_attribute("aria-valuetext") == "3 of 6 heads, ≈ 60.0 % accuracy"
    charts = page.get_by_role("img")
    assert charts.count() == 3
    assert "Silhouette of the clusters (−1 to 1), knee at 3 clusters" in str(charts.nth(2).get_attribute("aria-label"))
    # One stop for Tab in the grid, whatever its size.
    assert [cell.get_attribute("tabindex") for cell in cells.all()].count("0") == 1
    inspector = page.locator(".inspector")
    cells.nth(4).hover()
    assert heads(page, "lit") == {4, 5}
    expect(inspector).to_contain_text("replacement 1.2")
    # Heads 2 and 3 lie at 10 and 11, and are one cluster; the budget keeps 1, 3 and 5.
    page.evaluate("board.update({ ...data, selected: 2 })")
    expect(inspector.locator(".who")).to_have_text("Layer 0, head 2pruned; one of its family of two stays")
    expect(inspector.locator(".near")).to_have_text("Nearest1.00.10.0· replacement 1.0")
    assert (heads(page, "cover"), heads(page, "member"), heads(page, "lit")) == ({3}, {3}, set())
    cells.nth(5).hover()
    assert heads(page, "lit") == set()
    cells.nth(3).click()
    expect(inspector).to_contain_text(re.compile("kept, for its family of two.*Cluster B"))


def test_a_switch_colours_heads_by_roles_and_asks_for_roles_not_measured(bare: Callable[..., Page]) -> None:
    page = bare(data_of(on_a_line(), 3, colourings=[Coloured("roles", "roles", None, "")]))
    cells, chosen = page.get_by_role("gridcell"), page.get_by_role("group", name="Show")
    letters = cells.all_inner_texts()
    chosen.get_by_role("button", name="roles").click()
    assert page.evaluate("told") == [{"kind": "colour", "name": "roles"}]
    # Until they are measured it shows the clusters, and how far that is.
    page.evaluate(
        "data => board.update(data)",
        data_of(on_a_line(), 3, colourings=[Coloured("roles", "roles", None, "Measuring: next in line…")]),
    )
    assert cells.all_inner_texts() == letters
    expect(page.locator(".legend")).to_contain_text("Measuring: next in line…")
    names = ("first", "first", "induction", "none", "none", "first")
    measured = Coloured("roles", "roles", mark_roles(roles_of(*names, heads=3)))
    page.evaluate("data => board.update(data)", data_of(on_a_line(), 3, colourings=[measured]))
    assert cells.all_inner_texts() == ["1st", "1st", "ind", "", "", "1st"]
    expect(page.locator(".legend")).to_contain_text("induction head (1)")
    expect(page.locator(".legend")).to_contain_text("first token head (3)")
    expect(cells.nth(2)).to_have_attribute("aria-label", re.compile("induction head$"))
    cells.nth(0).hover()
    assert heads(page, "lit") == {0, 1, 5}
    chosen.get_by_role("button", name="clusters").click()
    assert cells.all_inner_texts() == letters
    assert len(page.evaluate("told")) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_in_light_and_dark_and_saves_curves_as_they_look(bare: Callable[..., Page], scheme: str) -> None:
    page = bare(data_of(on_a_line(), 2), color_scheme=scheme)
    # The spot on a measured budget is as dark as text, and outlined with the ground.
    text, ground = page.evaluate("""() => {
      const said = getComputedStyle(document.querySelector(".figure .value")).color;
      const ground = getComputedStyle(document.querySelector(".spot:not(.hollow, .ring)")).stroke;
      return [said, ground].map((colour) => Number(colour.match(/\\d+/)[0]));
    }""")
    assert (text < 80 and ground > 200) if scheme == "light" else (text > 200 and ground < 80)
    with page.expect_download() as started:
        page.get_by_role("button", name="SVG").click()
    picture = Path(started.value.path()).read_text(encoding="utf-8")
    ground = "rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 18, 18)"
    assert f'fill="{ground}"' in picture.split(">")[1]


def test_on_a_phone_a_deep_board_has_cells_to_tap_and_its_slider_stays_in_sight(bare: Callable[..., Page]) -> None:
    page = bare(data_of(in_a_row(30, 3), 45), viewport={"width": 390, "height": 700}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    cells = [cell.bounding_box() or {} for cell in page.get_by_role("gridcell").all()]
    assert min(min(box["width"], box["height"]) for box in cells) >= 24
    # Thirty layers in three lines of ten; the three heads of a layer are below each other.
    assert len({box["y"] for box in cells}) == 9
    assert cells[0]["x"] == cells[2]["x"] == cells[30]["x"]
    # A tap moves nothing and covers no head.
    page.get_by_role("gridcell").nth(40).tap()
    expect(page.locator(".inspector")).to_contain_text("Layer 13, head 1")
    assert [cell.bounding_box() for cell in page.get_by_role("gridcell").all()] == cells
    for place in ("start", "end"):
        page.locator(".cahp-board").evaluate("(board, block) => board.scrollIntoView({ block })", place)
        expect(page.locator("input.slider")).to_be_in_viewport(ratio=1)


def test_heads_that_only_one_of_two_masks_keeps_are_marked_while_dragging(bare: Callable[..., Page]) -> None:
    clusters = on_a_line()
    page = bare(given(clusters, table_of(clusters), 3, {"pinned": HeadMask.of([0, 1, 4], 2, 3)}))

    def marked() -> tuple[set[int], set[int]]:
        return heads(page, "only-a"), heads(page, "only-b")

    kept = {int(one.get_attribute("data-head") or 0) for one in page.get_by_role("gridcell", selected=True).all()}
    assert marked() == ({0, 1, 4} - kept, kept - {0, 1, 4})
    assert kept != {0, 1, 4}
    label = page.locator(".cell.only-a").first.get_attribute("aria-label") or ""
    assert label.endswith("kept by A only")
    expect(page.locator(".legend .versus")).to_be_visible()
    # All heads: what A keeps is no difference any more, and all else is B's alone.
    slide = "slider => { slider.value = slider.max; slider.dispatchEvent(new Event('input', { bubbles: true })); }"
    page.locator("input.slider").evaluate(slide)
    assert marked() == (set(), {2, 3, 5})
    page.locator("input.slider").dispatch_event("change")
    page.wait_for_function("window.told.length")
    page.evaluate("() => { const { pinned, ...rest } = window.data; window.board.update(rest); }")
    expect(page.locator(".legend .versus")).to_be_hidden()
    assert page.locator(".cell.only-a, .cell.only-b").count() == 0


def test_a_card_opens_leads_on_and_closes(new_person: Callable[..., Page], settled: Callable[[Page], Page]) -> None:
    page = new_person(viewport={"width": 390, "height": 844})
    cells = page.get_by_role("gridcell")
    cells.nth(0).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("i")
    card = page.get_by_role("dialog")
    expect(card).to_contain_text("Layer 0, head 1")
    expect(card).to_contain_text("of predictions change")
    expect(card.locator(".sentence svg path").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"head=0\.1\b"))
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    # The first stop after the button that closes it is the family.
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(card).to_contain_text("Layer 0, head 0")
    expect(page).to_have_url(re.compile(r"head=0\.0\b"))
    settled(page).keyboard.press("Escape")
    expect(card).to_have_count(0)
    expect(page).not_to_have_url(re.compile("head="))
    expect(cells.nth(1)).to_be_focused()
    # Back closes it, and Forward opens it again.
    page.keyboard.press("i")
    expect(card).to_contain_text("Layer 0, head 1")
    settled(page).go_back(wait_until="commit")
    expect(card).to_have_count(0)
    settled(page).go_forward(wait_until="commit")
    expect(card).to_contain_text("Layer 0, head 1")
