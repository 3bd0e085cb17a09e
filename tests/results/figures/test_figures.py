"""What holds for every kind of figure, and the files that they become."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from results import figures
from results.figures import FigureError
from results.figures._style import shown, spread

_spec = importlib.util.spec_from_file_location(
    "figures_conftest", Path(__file__).with_name("conftest.py")
)
helpers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(helpers)

KINDS = figures.names()
HOSTILE = {
    "_<script>alert(1)</script>[rank=1]": 10,
    "_<script>alert(1)</script>[rank=4]": 40,
    '$x_1$ & \x1b[31m\n"quoted" ]]>': 20,
    "\U0001f600 \u6f22\u5b57": 30,
}


def asked(kind):
    """What a kind has to be told of the study."""
    return {"datasets": ("mnist",)} if kind == "overlap" else {}


def test_the_kinds_are_those_of_the_files():
    assert KINDS == (
        "critical",
        "curves",
        "intervals",
        "overlap",
        "pareto",
        "profiles",
        "ranks",
        "wise",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_svg_is_whole_and_names_every_variant_that_is_drawn(kind, study):
    picture = figures.make(study(), kind, "demo", **asked(kind))
    root, texts = helpers.svg_of(picture)
    desc = root.find("{http://www.w3.org/2000/svg}desc").text
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title.text == picture.drawing.title
    assert root.get("aria-labelledby") == "figure-title figure-desc"
    names = {record[0] for record in picture.drawing.records}
    assert len(names) > 1
    for name in names:
        assert any(name in text for text in texts), name
        assert name in desc


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_names_are_text(kind, study):
    picture = figures.make(study(HOSTILE), kind, "demo", **asked(kind))
    root, texts = helpers.svg_of(picture)
    assert root.find(".//{*}script") is None
    assert any("_<script>alert(1)</script>" in text for text in texts)
    if kind != "ranks":
        assert any('$x_1$ & \\x1b[31m\\n"quoted" ]]>' in text for text in texts)
        assert any("\\u6f22" in text for text in texts)
    helpers.png_of(picture)


@pytest.mark.parametrize("kind", KINDS)
def test_the_png_opens_and_says_where_it_is_from(kind, study):
    picture = figures.make(
        study(), kind, "demo", **asked(kind), provenance={"store": "s", "generation": "7"}
    )
    image = helpers.png_of(picture)
    assert image.width > 600
    assert "generation 7" in image.text["Source"]
    assert image.text["Description"] == picture.alt
    pixels = np.asarray(image.convert("L"))
    # Nothing is cut: the outermost pixels are the background.
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    assert all((edge == 255).all() for edge in edges)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_input_gives_equal_bytes(kind, study):
    store = study()
    one, two = (figures.make(store, kind, "demo", **asked(kind)) for _ in range(2))
    assert one.to_svg() == two.to_svg()
    assert one.to_png() == two.to_png()
    assert one.to_json() == two.to_json()


def test_a_persons_own_matplotlib_settings_change_nothing(study):
    import matplotlib as mpl

    picture = figures.make(study(), "intervals", "demo")
    before = picture.to_svg()
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert picture.to_svg() == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variants", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_no_two_texts_lie_over_each_other(kind, variants, study):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    from results.figures._canvas import drawn

    named = {
        f"method{n // 3}[rank={4 ** (n % 3)}]": 100 * 2 ** (n % 9) + n for n in range(variants)
    }
    figure = drawn(figures.make(study(named), kind, "demo", **asked(kind)))
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    texts = [
        text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()
    ]
    boxes = [Text.get_window_extent(text, renderer) for text in texts]
    x0, y0, x1, y1 = np.array([box.extents for box in boxes]).T
    frame = figure.bbox
    # Ticks beyond a panel's limits are there, but not drawn.
    ticks = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
    }
    keep = np.array([id(text) not in ticks for text in texts])
    x0, y0, x1, y1 = (side[keep] for side in (x0, y0, x1, y1))
    assert (x0 >= -1).all()
    assert (y0 >= -1).all()
    assert (x1 <= frame.width + 1).all()
    assert (y1 <= frame.height + 1).all()
    width = np.minimum.outer(x1, x1) - np.maximum.outer(x0, x0)
    height = np.minimum.outer(y1, y1) - np.maximum.outer(y0, y0)
    over = np.argwhere(np.triu((width > 1) & (height > 2.5), 1))
    kept = [text.get_text() for text, kept in zip(texts, keep, strict=True) if kept]
    assert not [(kept[a], kept[b]) for a, b in over]


@pytest.mark.parametrize("kind", KINDS)
def test_the_json_has_every_record(kind, study):
    picture = figures.make(study(), kind, "demo", **asked(kind), provenance={"store": "s"})
    told = json.loads(picture.to_json())
    assert told["provenance"] == {"store": "s"}
    assert [tuple(record.values()) for record in told["records"]] == list(picture.drawing.records)


def test_an_option_of_another_kind_is_refused(store):
    with pytest.raises(FigureError, match="against: 'x' given, allowed: by a figure that takes it"):
        figures.make(store, "curves", against="x")


def test_numbers_alone_load_no_matplotlib_and_pictures_no_torch(study):
    path = study().path
    code = (
        "import sys; from results.store import Store; from results import figures;"
        f"p = figures.make(Store.open({str(path)!r}), 'pareto');"
        "p.to_text(); print('matplotlib.figure' in sys.modules);"
        "p.to_svg(); print('torch' in sys.modules, 'ray' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(figures.__file__).parents[2],
    )
    assert done.stdout.split() == ["False", "False", "False"]


def test_places_keep_their_order_and_their_distance():
    assert spread([0.5, 0.1, 0.9], 0.1) == pytest.approx([0.5, 0.1, 0.9])
    assert spread([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.4, 0.5, 0.6])
    assert spread([0.52, 0.5], 0.1) == pytest.approx([0.56, 0.46])


def test_long_names_are_cut_in_the_middle_and_stay_different():
    long = "a" * 60
    made = shown([f"{long}1", f"{long}1", "short"])
    assert made[0].startswith("aaa")
    assert made[0].endswith("a1")
    assert len(made[0]) <= 52
    assert len(set(made)) == 3
    assert made[2] == "short"


# The commands


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_command_draws_and_prints_the_numbers(kind, ending, study, peftgrid, tmp_path):
    study()
    out = tmp_path / "new" / f"figure.{ending}"
    only = [word for name in asked(kind).get("datasets", ()) for word in ("--dataset", name)]
    code, said, err = peftgrid("figure", kind, "demo", *only, "--out", str(out))
    assert (code, err) == (0, "")
    assert "from: suite demo; metric test/top1; store store; generation 0; peftgrid" in said
    assert said.endswith(f"drawn: {out}\n")
    if ending == "svg":
        root = ET.fromstring(out.read_bytes())
        source = root.find(".//{http://purl.org/dc/elements/1.1/}source").text
        assert source in said
        assert "generation 0" in source


def test_json_is_nothing_but_json(study, peftgrid, tmp_path):
    study()
    _, said, _ = peftgrid("figure", "ranks", "--json", "--out", str(tmp_path / "f.svg"))
    assert json.loads(said)["kind"] == "ranks"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("figure", "pie", "--out", "x.svg"), "kind: 'pie' given, allowed: critical, curves"),
        (("figure", "pareto", "--out", "x.pdf"), "x.pdf given, allowed: a file that ends in .svg"),
        (("figure", "pareto", "other", "--out", "x.svg"), "suite: other given, allowed: demo"),
        (("figure", "ranks", "--out", "x.svg"), "has complete runs at two or more ranks"),
        (("figure", "critical", "--out", "x.svg"), "2 complete variants on 1 data sets given"),
        (
            ("figure", "curves", "--out", "x.svg", "--dataset", "cifar"),
            "data set: cifar given, allowed: mnist",
        ),
        (
            ("figure", "curves", "--out", "x.svg", "--against", "epoch_seconds"),
            "curves takes datasets",
        ),
        (("figure", "curves", "--out", "x.svg", "--metric", "val/ece"), None),
        (("pareto", "--against", "money"), "'money' is not one of"),
        (("figure", "pareto", "--out", "/proc/x/y.svg"), "which cannot be written"),
    ],
)
def test_what_cannot_be_had_is_refused(words, says, study, peftgrid, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    study({"linear": 10, "lora[rank=2]": 20}, datasets=("mnist",))
    code, said, err = peftgrid(*words)
    if says is None:  # the training loss is there, this metric is not
        assert code == 0
        return
    assert (code, said) == (2, "")
    assert says in err
    assert not list(tmp_path.glob("*.svg"))


@pytest.mark.parametrize("kind", ["pareto", "intervals", "profiles"])
def test_where_nothing_is_complete_nothing_is_drawn(kind, study, peftgrid, tmp_path):
    study(
        {"linear": 10, "lora": 20},
        datasets=("mnist",),
        missing=[("linear", "mnist", 0), ("lora", "mnist", 1)],
    )
    code, _, err = peftgrid("figure", kind, "--out", str(tmp_path / "f.svg"))
    assert code == 2
    assert "no variant is complete: linear (2 of 3 runs), lora (2 of 3 runs)" in err
    assert not (tmp_path / "f.svg").exists()
