"""`btlib paper`: the list, what is refused, and a finished row beside the paper."""

import pytest
from typer.testing import CliRunner

from btlib.cli.app import app
from btlib.cli.paper import make_tasks
from btlib.papers import jobs, store, tables
from btlib.papers.measurements import plan
from btlib.papers.store import Result
from btlib.paths import CHECKOUT


def invoke(*words: str):
    return CliRunner().invoke(app, ["paper", *words])


def put(folder, key, numbers, seed=0, profile="fast", memory=1.0):
    planned = plan(key, profile, seed)
    return store.write(folder, Result(planned.home, planned.measurement, numbers, 12.0, memory, "cpu", {}, ""))


def test_the_list_has_every_table_and_row_with_its_state(tmp_path, monkeypatch):
    monkeypatch.delenv("BTLIB_DATA", raising=False)
    put(tmp_path, "inflight-4/fmnist-wb", {}, profile="full")
    done = invoke("--results", str(tmp_path))
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert [line.split(":")[0] for line in lines if line and line[0] != " "] == list(tables())
    assert sum(line.startswith("  ") for line in lines) == sum(len(t.rows) for t in tables().values())
    state = {tuple(line.split()[:3]) for line in lines}
    assert ("fmnist-wb", "done", "12") in state
    assert ("fmnist-cb", "not", "run") in state
    assert ("mnist-cb", "needs", "data") in state
    assert "unknown a seed" in done.output


def test_finished_rows_are_not_run_again_and_stand_beside_the_paper(tmp_path):
    put(tmp_path, "inflight-4/fmnist-wb", {"likelihood": {"tpr": 0.99, "fpr": 0.05, "sia": None}})
    put(tmp_path, "inflight-4/fmnist-cb", {"likelihood": {"tpr": 0.5, "fpr": 0.05, "sia": None}})
    done = invoke("inflight-4", "--profile", "fast", "--rows", "fmnist-wb", "--results", str(tmp_path))
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.output.splitlines() if line.startswith("fmnist")]
    assert ["fmnist-wb", "likelihood.tpr", "0.9951", "0.99", "1", "yes"] in rows
    assert ["fmnist-wb", "likelihood.fpr", "0.0127", "0.05", "1", "no"] in rows
    assert ["fmnist-wb", "likelihood.sia", "0.8039", "none", "0"] in rows
    assert all(row[0] == "fmnist-wb" for row in rows)


def test_a_table_can_be_looked_at_without_running(tmp_path):
    done = invoke("lred-4", "--list", "--results", str(tmp_path))
    assert done.exit_code == 0
    assert "8.44e-7" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lred-9"], "'lred-9'"),
        (["lred-2", "--rows", "g-1,g-2"], "'g-1,g-2'"),
        (["inflight-4", "--rows", "pubfig-sq"], "PubFig is not distributed"),
        (["inflight-4", "--rows", "pubfig-sq", "--dask", "tcp://127.0.0.1:9"], "PubFig is not distributed"),
        (["--rows", "g-1"], "TABLE: expected the table to run"),
    ],
)
def test_what_cannot_be_run_is_one_error(tmp_path, words, said):
    done = invoke(*words, "--results", str(tmp_path))
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_what_a_cluster_has_is_not_known_here(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("BTLIB_DATA", str(tmp_path))
    table, rows = tables()["stealthy-1"], ["badnets-gtsrb", "plain-mnist"]
    with pytest.raises(ValueError, match="stealthy-1/badnets-gtsrb: needs GPU"):
        make_tasks(table, rows, "paper", 1, explicit=True, here=True, known={})
    sent = make_tasks(table, rows, "paper", 1, explicit=True, here=False, known={})
    assert [task.row for task in sent] == ["stealthy-1/badnets-gtsrb", "stealthy-1/plain-mnist"]


@pytest.mark.skipif((CHECKOUT / "data" / "MNIST").exists(), reason="MNIST is in data/")
def test_missing_images_are_downloaded_for_rows_that_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("BTLIB_DATA", str(tmp_path))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody is there: no network
    done = invoke("inflight-4", "--rows", "mnist-wb", "--results", str(tmp_path / "results"))
    assert done.exit_code == 2
    assert "data set 'mnist' is missing" in done.stderr
    assert "the download failed" in done.stderr


def test_damaged_results_are_named_and_old_ones_are_not(tmp_path):
    path = put(tmp_path, "inflight-4/fmnist-wb", {})
    whole = path.read_text()
    path.write_text(whole[:50])
    done = invoke("inflight-4", "--list", "--profile", "fast", "--results", str(tmp_path))
    assert done.exit_code == 0
    assert f"{path}: it is not a result of btlib" in done.stderr
    path.unlink()
    path.with_name("fmnist-wb-s0-0123456789.json").write_text(whole)  # as a former version would have named it
    assert invoke("inflight-4", "--list", "--profile", "fast", "--results", str(tmp_path)).stderr == ""


def test_a_sweep_that_does_not_fit_is_refused(tmp_path):
    put(tmp_path, "inflight-4/fmnist-wb", {}, seed=1, memory=1e9)  # the same with another seed has taken a petabyte
    done = invoke("inflight-4", "--profile", "fast", "--rows", "fmnist-wb", "--results", str(tmp_path))
    assert done.exit_code == 2
    assert "memory: expected" in done.output


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "finished rows are kept"),
        (RuntimeError("no luck"), 1, "FAIL inflight-4/fmnist-wb seed 0: RuntimeError: no luck"),
    ],
)
def test_a_row_that_is_stopped_or_fails_is_told(tmp_path, monkeypatch, error, status, said):
    def broken(*_):
        raise error

    monkeypatch.setitem(jobs.KINDS, "inflight", broken)
    done = invoke("inflight-4", "--profile", "fast", "--rows", "fmnist-wb", "--results", str(tmp_path))
    assert (done.exit_code, said in done.stderr) == (status, True), done.output
