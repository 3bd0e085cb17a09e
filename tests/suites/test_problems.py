"""Bad suites: every mistake is found at once, with its place, what was given and what is allowed."""

import textwrap

import pytest

from suites import catalog
from suites.document import MAX_BYTES
from suites.load import SuiteError, load, loads

GOOD = {
    "schema": "schema: 1",
    "suite": "suite: bad",
    "backbone": "backbone: vit_tiny_fashion",
    "methods": "methods: [linear]",
    "datasets": "datasets: [mnist]",
    "seeds": "seeds: 1",
}


def suite(**lines):
    """A good suite with some lines replaced, removed (None) or added."""
    return "\n".join(line for line in (GOOD | lines).values() if line is not None) + "\n"


def problems(text, **options):
    with pytest.raises(SuiteError) as caught:
        loads(text, **options)
    return caught.value.problems


def test_the_good_one_is_good():
    assert len(list(loads(suite()).cells())) == 1


@pytest.mark.parametrize(
    ("lines", "line", "column", "path", "words"),
    [
        # Unknown names.
        ({"x": "sedes: 3"}, 7, 1, "sedes", ["unknown key 'sedes'", "Did you mean 'seeds'?", "train"]),
        ({"methods": "methods: [linar]"}, 4, 11, "methods[0]", ["'linar'", "mean 'linear'?", "lora"]),
        (
            {"methods": "methods:\n  - {name: lora, rnak: 4}"},
            5, 18, "methods[0].rnak", ["unknown key 'rnak'", "mean 'rank'?", "alpha"],
        ),
        ({"datasets": "datasets: [mnits]"}, 5, 12, "datasets[0]", ["'mnits'", "mean 'mnist'?"]),
        (
            {"datasets": "datasets: [{name: mnist, size: 3}]"},
            5, 26, "datasets[0].size", ["unknown key 'size'", "split_seed"],
        ),
        (
            {"backbone": "backbone: vit_tiny_fashon"},
            3, 11, "backbone", ["'vit_tiny_fashon'", "vit_tiny_fashion"],
        ),
        ({"t": "train: {ephocs: 3}"}, 7, 9, "train.ephocs", ["mean 'epochs'?", "batch_size"]),
        ({"r": "resources: {ram: 3}"}, 7, 13, "resources.ram", ["unknown key", "cpus, gpus"]),
        ({"r": "execution: {time: 3m}"}, 7, 13, "execution.time", ["unknown key"]),
        ({"r": "retries: {worker_lost: 3}"}, 7, 1, "retries", ["unknown key"]),
        ({"e": "exclude: [{method: linaer}]"}, 7, 20, "exclude[0].method", ["mean 'linear'?"]),
        ({"e": "exclude: [{metod: linear}]"}, 7, 12, "exclude[0].metod", ["mean 'method'?"]),
        # Wrong types.
        ({"t": "train: {epochs: 3.7}"}, 7, 17, "train.epochs", ["3.7 given", "a whole number"]),
        ({"t": "train: {epochs: '3'}"}, 7, 17, "train.epochs", ["'3' given", "a whole number"]),
        ({"t": "train: {epochs: true}"}, 7, 17, "train.epochs", ["true given", "a whole number"]),
        ({"t": "train: {epochs: null}"}, 7, 17, "train.epochs", ["null given"]),
        ({"t": "train: {lr: on}"}, 7, 13, "train.lr", ["'on' given", "a number"]),
        ({"t": "train: {optimizer: adamww}"}, 7, 20, "train.optimizer", ["mean 'adamw'?", "sgd"]),
        ({"t": "train: [3]"}, 7, 1, "train", ["[3] given", "a mapping of epochs"]),
        ({"t": "train: {head_lr: [[1]]}"}, 7, 19, "train.head_lr[0]", ["[1] given", "a number or null"]),
        ({"methods": "methods: [{name: lora, rank: '8'}]"}, 4, 30, "methods[0].rank", ["'8' given"]),
        ({"methods": "methods: [{name: lora, targets: q}]"}, 4, 33, "methods[0].targets", ["a list"]),
        ({"methods": "methods: [3]"}, 4, 11, "methods[0]", ["3 given", "a name"]),
        ({"methods": "methods: [{rank: 3}]"}, 4, 11, "methods[0]", ["name: ..."]),
        ({"methods": "methods: linear"}, 4, 10, "methods", ["'linear' given", "a list"]),
        ({"backbone": "backbone: [a]"}, 3, 1, "backbone", ['["a"] given', "text"]),
        ({"seeds": "seeds: [1, -1]"}, 6, 1, "seeds", ["[1, -1] given", "at least 0"]),
        ({"seeds": "seeds: 1.5"}, 6, 8, "seeds", ["1.5 given"]),
        ({"r": "resources: {cpus: 0}"}, 7, 19, "resources.cpus", ["0 given", "at least 1"]),
        ({"r": "resources: {gpus: one}"}, 7, 19, "resources.gpus", ["'one' given", "auto or a number"]),
        ({"r": "execution: {runs_per_job: 0}"}, 7, 27, "execution.runs_per_job", ["at least 1"]),
        ({"schema": "schema: 2"}, 1, 9, "schema", ["2 given, allowed: 1"]),
        ({"suite": "suite: Big One"}, 2, 8, "suite", ["'Big One' given", "lower-case"]),
        # Values that a method, a data set or the recipe refuses.
        (
            {"methods": "methods: [{name: lora, rank: 0}]"},
            4, 30, "methods[0].rank", ["0 given", "at least 1"],
        ),
        ({"methods": "methods: [{name: lora, rank: [4, 0]}]"}, 4, 34, "methods[0].rank[1]", ["0 given"]),
        (
            {"methods": "methods: [{name: lora, targets: [q, w]}]"},
            4, 24, "methods[0].targets", ["'w' given", "qkv"],
        ),
        (
            {"methods": "methods: [{name: lora, targets: alls}]"},
            4, 33, "methods[0].targets", ["'alls' given", "mean 'all'?"],
        ),
        (
            {"methods": "methods: [{name: lora, targets: [all]}]"},
            4, 24, "methods[0].targets", ["'all' given", "a list of some of q", "or all"],
        ),
        (
            {"methods": "methods: [{name: lora, targets: [q, v], rank: [[1, 2, 3]]}]"},
            4, 48, "methods[0].rank[0]", ["[1, 2, 3] given", "the 2 targets (q, v)"],
        ),
        ({"methods": "methods: [{name: lora, blocks: 1}]"}, 4, 32, "methods[0].blocks", ["a list"]),
        ({"methods": "methods: [{name: lora, blocks: [1, 1]}]"}, 4, 24, "methods[0].blocks", ["each once"]),
        ({"datasets": "datasets: [{name: mnist, val: 0}]"}, 5, 31, "datasets[0].val", ["0 given"]),
        ({"t": "train: {epochs: 0}"}, 7, 17, "train.epochs", ["0 given", "at least 1"]),
        ({"t": "train: {fit: train+val}"}, 7, 1, "train", ["select_epoch", "last_epoch"]),
        ({"t": "overrides: [{when: {seed: 0}, train: {lr: -1}}]"}, 7, 43, "overrides[0].train.lr", ["-1"]),
        # Axes, rules and counts.
        ({"methods": "methods: [{name: lora, rank: []}]"}, 4, 24, "methods[0].rank", ["an empty list"]),
        ({"t": "train: {lr: []}"}, 7, 9, "train.lr", ["an empty list"]),
        ({"methods": "methods: []"}, 4, 1, "methods", ["an empty list"]),
        ({"seeds": "seeds: []"}, 6, 1, "seeds", ["an empty list"]),
        ({"seeds": "seeds: 0"}, 6, 8, "seeds", ["0 given", "1 to"]),
        ({"methods": None}, 1, 1, "", ["lacks methods"]),
        ({"backbone": None, "datasets": None}, 1, 1, "", ["lacks backbone, datasets"]),
        ({"schema": None}, 1, 1, "", ["lacks schema"]),
        ({"x": "backbones: [vit_tiny_fashion]"}, 3, 1, "backbone", ["one of them"]),
        ({"e": "exclude: [{method: linear}]"}, 1, 1, "", ["0 cells"]),
        (
            {"e": "exclude: [{method: full}]"},
            7, 11, "exclude[0]", ["matches no cell", "no method full"],
        ),
        (
            {"e": "exclude: [{method: [linear, full], seed: 0}]", "seeds": "seeds: 2"},
            7, 11, "exclude[0]", ["no method full"],
        ),
        (
            {"e": "exclude: [{method: linear, seed: 0}, {seed: 0}, {seed: 1, dataset: mnist}]",
             "seeds": "seeds: 2", "g": "overrides: [{when: {seed: 1}, train: {lr: 1}}]"},
            8, 13, "overrides[0]", ["matches no cell"],
        ),
        (
            {"e": "overrides:\n- {when: {seed: 1}, train: {lr: 1}}"},
            8, 3, "overrides[0]", ["matches no cell", "no seed 1"],
        ),
        ({"e": "overrides: [{when: {}, train: {lr: 1}}]"}, 7, 14, "overrides[0].when", ["names nothing"]),
        ({"e": "overrides: [{when: {seed: 0}}]"}, 7, 13, "overrides[0]", ["lacks train or resources"]),
        ({"g": "grids: [{method: [full]}]"}, 7, 10, "grids[0].method", ["mean 'methods'?"]),
        ({"g": "grids: [{methods: [full]}]"}, 4, 1, "methods", ["no effect"]),
        ({"seeds": "seeds: 1000000", "methods": "methods: [full, linear]"}, 1, 1, "", ["2000000 cells"]),
        # YAML.
        ({"x": "seeds: 2"}, 7, 1, "seeds", ["repeated key", "line 6"]),
        ({"t": "train: {lr: 1, lr: 2}"}, 7, 16, "train.lr", ["repeated key"]),
        ({"t": "train: {lr: .nan}"}, 7, 13, "train.lr", [".nan given", "finite"]),
        ({"t": "train: {lr: 1e999}"}, 7, 13, "train.lr", ["1e999 given", "finite"]),
        ({"t": "train: {epochs: 9223372036854775808}"}, 7, 17, "train.epochs", ["64-bit"]),
        ({"x": "question: 2020-01-01"}, 7, 11, "question", ["2020-01-01", "timestamp"]),
        ({"x": "1: 2"}, 7, 1, "1", ["a key that is not text"]),
        ({"x": "? [a]\n: 2"}, 7, 3, "?", ["a key that is not text"]),
        ({"x": "question: !!python/object:os.system x"}, 7, 11, "question", ["python/object"]),
        ({"x": "train: !!python/object:os.system {}"}, 7, 8, "train", ["no tags"]),
        ({"x": "train: {<<: {lr: 1}}"}, 7, 9, "train.<<", ["unknown key"]),
        ({"x": "question: [a"}, 8, 1, "", ["not YAML"]),
        ({"x": "a: b: c"}, 7, 5, "", ["not YAML", "mapping values"]),
        ({"x": "---\na: 1"}, 7, 1, "", ["not YAML", "another document"]),
    ],
)  # fmt: skip
def test_a_mistake_has_its_place(lines, line, column, path, words):
    found = problems(suite(**lines), file="my.yaml")
    matching = [p for p in found if (p.line, p.column, p.path) == (line, column, path)]
    assert matching, "\n".join(map(str, found))
    for word in words:
        assert any(word in p.message for p in matching), str(matching[0])
    assert {p.file for p in found} == {"my.yaml"}


def test_several_mistakes_are_reported_at_once():
    text = textwrap.dedent("""\
        schema: 1
        suite: many
        backbone: vit_tiny_fashon
        methods:
          - linar
          - {name: lora, rank: [0, 4.5], alpha: '8', rnak: 2}
        datasets: [mnits, {name: mnist, train: 0}]
        seeds: 0
        train: {epochs: 0, lr: x, lr: 2, warmup_epochs: -1}
        overrides:
          - {when: {metod: full}, train: {epochs: 0.5}}
        resources: {gpus: -1}
        execution: {max_parallel: many}
        """)
    found = problems(text, file="my.yaml", overrides=["a.b=1", "seeds"])
    assert [(p.file, p.line, p.path) for p in found] == [
        ("--set", 1, "a"),
        ("--set", 2, ""),
        ("my.yaml", 3, "backbone"),
        ("my.yaml", 5, "methods[0]"),
        ("my.yaml", 6, "methods[1].rank[0]"),
        ("my.yaml", 6, "methods[1].rank[1]"),
        ("my.yaml", 6, "methods[1].alpha"),
        ("my.yaml", 6, "methods[1].rnak"),
        ("my.yaml", 7, "datasets[0]"),
        ("my.yaml", 7, "datasets[1].train"),
        ("my.yaml", 8, "seeds"),
        ("my.yaml", 9, "train.epochs"),
        ("my.yaml", 9, "train.lr"),
        ("my.yaml", 9, "train.lr"),
        ("my.yaml", 11, "overrides[0].when.metod"),
        ("my.yaml", 11, "overrides[0].train.epochs"),
        ("my.yaml", 12, "resources.gpus"),
        ("my.yaml", 13, "execution.max_parallel"),
    ]


def test_the_error_reads_as_one_problem_a_line():
    with pytest.raises(SuiteError) as caught:
        loads(suite(methods="methods: [{name: lora, rank: 0}]", seeds="seeds: no"), file="a.yaml")
    assert str(caught.value).splitlines() == [
        "a.yaml:4:30: methods[0].rank: 0 given, allowed: an integer of at least 1",
        "a.yaml:6:8: seeds: 'no' given, allowed: a whole number or a list, each entry a whole number",
    ]


def test_a_default_is_not_blamed_for_what_cannot_be_read():
    # `warmup_epochs: 8` is fine beside 10 epochs, which is what was meant.
    found = problems(suite(train="train: {epochs: '10', warmup_epochs: 8}"))
    assert [p.path for p in found] == ["train.epochs"]


@pytest.mark.parametrize("text", ["", "# nothing", "- 1", "linear", "null", "[" * 600])
def test_what_is_no_mapping(text):
    assert len(problems(text)) == 1


def test_aliases_are_values_and_no_bomb():
    text = suite(methods="methods: &m [linear]", g="grids: [{methods: *m, seeds: [3]}]")
    text = text.replace("methods: &m [linear]\n", "question: &q why\n").replace("*m", "[*q]")
    assert "unknown method 'why'" in str(problems(text)[0])
    bomb = "a0: &a0 [1]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
    )
    assert "more than" in problems(bomb)[0].message
    assert len(problems("a: &a [*a]")) == 1


def test_too_large_and_undecodable_files(tmp_path):
    assert "bytes" in problems(" " * MAX_BYTES + "a: 1")[0].message
    file = tmp_path / "bad.yaml"
    file.write_bytes(b"suite: \xff")
    with pytest.raises(SuiteError, match="byte 7 is not UTF-8"):
        load(file)
    with pytest.raises(SuiteError, match=r"none\.yaml:1:1: No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(SuiteError, match="directory"):
        load(tmp_path)


def test_a_file_is_loaded_with_its_name_in_errors(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("\ufeff" + suite())
    assert load(file).file == load(str(file)).file == str(file)
    file.write_text(suite(seeds="seeds: 0"))
    with pytest.raises(SuiteError) as caught:
        load(str(file))
    assert str(caught.value).startswith(f"{file}:6:8: seeds: ")


@pytest.mark.parametrize(
    ("override", "column", "path", "words"),
    [
        ("train.epochs", 1, "", "allowed: path.to.setting=value"),
        ("train.epochs=", 1, "", "allowed: path.to.setting=value"),
        ("train.ephocs=1", 1, "train.ephocs", "Did you mean 'epochs'?"),
        ("train.epochs=0", 14, "train.epochs", "at least 1"),
        ("train.epochs=[1, x]", 18, "train.epochs[1]", "'x' given"),
        ("train.epochs=[1", 16, "train.epochs", "not YAML"),
        ("methods[1].rank=2", 1, "methods[1].rank", "0 to 0"),
        ("methods[0].rank=2", 1, "methods[0].rank", "methods.0 is 'linear'"),
        ("suite.name=x", 1, "suite.name", "suite is 'bad'"),
    ],
)
def test_bad_settings_from_the_command_line(override, column, path, words):
    found = problems(suite(), overrides=["seeds=2", override])
    assert [(p.file, p.line, p.column, p.path) for p in found] == [("--set", 2, column, path)]
    assert words in found[0].message


def test_shipped_suites_load_by_name():
    for name in catalog.names():
        assert load(name).name == name
    with pytest.raises(SuiteError, match="unknown suite 'quikstart'"):
        load("quikstart")
