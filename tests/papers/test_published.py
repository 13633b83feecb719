"""The published numbers: structure of all tables, cells that everyone knows, and sums that the papers state."""

import tomllib

import pytest

from btlib.papers import published
from btlib.papers.published import Number, merged, parse, row, table, tables, unit
from btlib.paths import CHECKOUT

# Read by eye from the papers, not from the data files.
CELLS = [
    ("inflight-1/clean", "accuracy", 0.9387), ("inflight-1/wb-multi", "estimate_success", 0.9354),
    ("inflight-2/sp-multi", "likelihood.sia", 0.632), ("inflight-2/cb-multi", "b3d.fpr", 0.9955),
    ("inflight-2/wb-single", "neurons.tpr", 0.0), ("inflight-2/sp-single", "strip.tpr", 0.1333),
    ("inflight-3/wb-multi", "fine_tuning.1e-02", 0.8086), ("inflight-4/pubfig-wm", "likelihood.sia", 0.5507),
    ("inflight-4/fmnist-wb", "likelihood.fpr", 0.0127), ("inflight-layers/wb-multi", "layers.4.fpr", 0.0848),
    ("inflight-layers/sp-single", "layers.2.sia", 0.5962), ("stealthy-1/ours-gtsrb", "entropy_ratio", 1.12),
    ("stealthy-1/input-aware-mnist", "psnr", 15.24), ("stealthy-1/plain-mnist", "asr", 0.992),
    ("stealthy-fig4/epsilon-5", "first_asr", 0.3624), ("stealthy-fig5/with", "mask_norm", 260.0),
    ("lred-1/l-3", "success", 0.911), ("lred-2/l-1", "red-p.detected", 0.2), ("lred-3/g-9", "red-a.seconds", 636.0),
    ("lred-4/gtsrb-attacked", "red-a.p_value", 3.41e-9), ("lred-5/c", "accuracy", 0.938),
    ("lred-6/gtsrb-attacked", "success", 0.878), ("lred-a7/b", "red-a.detected", 0.9),
]  # fmt: skip


@pytest.mark.parametrize(("key", "column", "value"), CELLS)
def test_cells_are_as_printed(key, column, value):
    assert row(key).numbers[column].value == pytest.approx(value, rel=1e-12)


def test_every_table_of_the_papers_is_here():
    assert {name: len(t.rows) for name, t in tables().items()} == {
        "inflight-1": 7, "inflight-2": 6, "inflight-3": 1, "inflight-4": 6, "inflight-layers": 6,
        "stealthy-1": 7, "stealthy-fig4": 2, "stealthy-fig5": 4,
        "lred-1": 7, "lred-2": 7, "lred-3": 7, "lred-4": 8, "lred-5": 3, "lred-6": 8, "lred-a7": 3,
    }  # fmt: skip


@pytest.mark.parametrize("name", tables())
def test_a_table_is_whole(name):
    found = table(name)
    assert found.title
    assert found.source
    for each in found.rows.values():
        assert tuple(each.numbers) == found.columns
        assert each.label
        assert row(each.job).job == each.job, "a job of a job"
        assert row(each.job).settings["paper"]["kind"] in ("inflight", "attack", "detection")
        for column, number in each.numbers.items():
            assert (number.value is None) == (number.printed in ("NA", "—"))
            assert number.value is not None or number.note
            if unit(column) == "rate" and number.value is not None:
                assert 0 <= number.value <= 1
            if column.endswith(".detected"):
                assert number.of == found.repetitions


def test_what_two_tables_print_is_the_same():
    for name, layers in table("inflight-layers").rows.items():
        for rate in ("tpr", "fpr", "sia"):  # v1 repeats its Table 2 for the penultimate layer
            column = f"likelihood.{rate}"
            assert layers.numbers[column] == row(f"inflight-2/{name}").numbers[column]
    best = max(n.value for n in row("inflight-3/wb-multi").numbers.values())
    assert best == row("inflight-2/wb-multi").numbers["neurons.sia"].value  # "reporting the best SIA in Table 2"


def test_sums_are_those_of_the_text():
    rows = table("lred-2").rows
    attacked = [rows[name].numbers["red-a-2.detected"] for name in rows if name != "c-0"]
    assert round(sum(n.value * n.of for n in attacked)) == 56  # "we detect 56/60 attacks with only two clean images"
    clean = rows["c-0"].numbers["red-a-2.detected"]
    assert clean.of - round(clean.value * clean.of) == 1  # "1/10 false detection"


@pytest.mark.parametrize(
    ("printed", "number"),
    [
        ("0.98", Number("0.98", 0.98)),
        ("92.1 ± 1.9 %", Number("92.1 ± 1.9 %", 0.921, 0.019)),
        ("9/10", Number("9/10", 0.9, of=10)),
        ("> 90.00 %", Number("> 90.00 %", 0.9, bound=">")),
        ("≈ 260", Number("≈ 260", 260.0, bound="≈")),
        ("8.44e-7", Number("8.44e-7", 8.44e-7)),
    ],
)
def test_parse(printed, number):
    assert parse(printed) == number


def test_words_in_place_of_numbers():
    assert parse("u.f.").value == 0.0
    assert "underflow" in parse("u.f.").note
    assert parse("NA").value is parse("—").value is None


@pytest.mark.parametrize("printed", ["", "n/a", "1,5", "1.2.3", "90%", "-1"])
def test_what_cannot_be_read_is_refused(printed):
    with pytest.raises(ValueError, match="got"):
        parse(printed)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"lred-a7.*'lred-8'"):
        table("lred-8")
    with pytest.raises(ValueError, match=r"c-0.*'g-2'"):
        row("lred-2/g-2")


def test_merging_lays_mappings_over_one_another_and_leaves_both_alone():
    lower, upper = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 9}, "d": {"e": 4}}
    assert merged(lower, upper) == {"a": {"b": 9, "c": 2}, "d": {"e": 4}}
    assert lower == {"a": {"b": 1, "c": 2}, "d": 3}


def test_an_installed_wheel_has_the_data():
    globs = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["btlib"]
    folder = CHECKOUT / "btlib"
    packed = {path for pattern in globs for path in folder.glob(pattern)}
    assert set((folder / "papers" / "data").iterdir()) <= packed
    assert len(published.tables()) == 15
