# SPDX-License-Identifier: MIT
"""The benchmark's own logic: what is timed when, what rows become, what became slower, what charts show."""

import json
import math
import os
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import charts, compare, memory, opengl, results, scaling
from benchmarks.measure import measure
from benchmarks.peers.process import Peers
from benchmarks.rows import Peer, Result, Row, Spread, once
from docs import pages_from_code
from testing import with_opengl
from testing.timing import Run, interleaved

ROOT = Path(__file__).parent.parent
NOBODY = Peers([], 1)


# ---- timing ------------------------------------------------------------------------------------------------


def test_runs_take_turns_after_a_pause_and_a_warm_up() -> None:
    log: list[tuple[str, float]] = []

    def run(name: str) -> Run:
        return Run(lambda: (log.append((name, time.perf_counter())), time.sleep(0.002)))

    found = interleaved({"a": run("a"), "b": run("b")}, budget_s=0, least=2, pause_s=0.05, warm_s=0.01)
    turns = [log[2:3]]  # without the first call of each
    for entry in log[3:]:
        turns.append([entry]) if entry[0] != turns[-1][-1][0] else turns[-1].append(entry)
    assert [turn[0][0] for turn in turns] == ["a", "b", "a", "b"]
    for before, after in pairwise(turns):
        assert after[0][1] - before[-1][1] > 0.05
    # 10 ms of warm-up are at least two calls, then comes a burst of five.
    assert all(len(turn) >= 7 for turn in turns)
    assert 2 <= found["a"].low <= found["a"].median <= found["a"].high
    assert found["a"].best <= found["a"].low


def test_threads_are_set_for_each_run_and_restored() -> None:
    before, seen = torch.get_num_threads(), []
    other = before + 1
    interleaved(
        {"a": Run(lambda: seen.append(torch.get_num_threads()), other)}, budget_s=0, least=1, pause_s=0
    )
    assert set(seen) == {other}
    assert torch.get_num_threads() == before


def test_what_comes_before_comes_right_before_each_timed_call() -> None:
    log: list[str] = []
    run = Run(lambda: log.append("call"), before=lambda: log.append("before"))
    interleaved({"a": run}, budget_s=0, least=3, pause_s=0)
    assert log == ["before", "call"] * (len(log) // 2)


def test_a_clocked_run_tells_its_own_time() -> None:
    found = interleaved({"a": Run(lambda: 7.0, clocked=True)}, budget_s=0, least=1, pause_s=0)
    assert (found["a"].median, found["a"].best) == (7.0, 7.0)


# ---- rows --------------------------------------------------------------------------------------------------


def test_a_row_becomes_rates_and_ratios() -> None:
    row = Row(
        "op", 2.0, lambda: 4.0, lambda: None, bytes_moved=8_000_000, pixels=1000, triangles=10, clocked=True
    )
    (found,) = measure([row], threads=(1, 2), budget_s=0, least=1, peers=NOBODY)
    assert (found.ms, found.of_target, found.scaling) == (4.0, 2.0, 1.0)
    assert found.gb_per_s == pytest.approx(2.0)
    assert (found.ns_per_pixel, found.ns_per_triangle) == (4000.0, 400_000.0)
    assert found.in_proportion is not None
    assert found.bandwidth is not None
    # Twice the target, on a machine that copies 41.5 GB/s times its speed: a fast one makes it worse.
    assert found.in_proportion == pytest.approx(2.0 / (41.5 / (found.gb_per_s / found.bandwidth)))
    assert list(found.threads) == ["1", "2"]


def test_time_with_one_thread_is_set_against_that_with_most() -> None:
    row = Row("op", None, lambda: 12.0 / torch.get_num_threads(), lambda: None, clocked=True)
    (found,) = measure([row], threads=(1, 2, 3), budget_s=0, least=1, peers=NOBODY)
    assert (found.ms, found.scaling) == (4.0, 3.0)
    assert [found.threads[k].ms for k in "123"] == [12.0, 6.0, 4.0]
    (alone,) = measure([row], threads=(3,), budget_s=0, least=1, peers=NOBODY)
    assert alone.scaling is None


def test_nothing_is_timed_whose_result_is_wrong() -> None:
    def wrong() -> None:
        raise AssertionError("differs from the oracle")

    calls: list[int] = []
    rows = [Row("op", None, lambda: calls.append(0), check) for check in (lambda: None, wrong)]
    with pytest.raises(AssertionError, match="differs from the oracle"):
        measure(rows, threads=(1,), budget_s=0, least=1, peers=NOBODY)
    assert not calls


def test_a_peer_in_this_process_is_timed_unless_it_is_not_wanted() -> None:
    row = Row(
        "op", None, lambda: 1.0, lambda: None, clocked=True, peer="sleep", run_peer=lambda: time.sleep(0.003)
    )
    (found,) = measure([row], threads=(1,), budget_s=0, least=1, peers=NOBODY)
    assert [peer.name for peer in found.peers] == ["sleep"]
    assert found.peers[0].speedup == found.peers[0].ms >= 3
    (without,) = measure([row], threads=(1,), budget_s=0, least=1, peers=NOBODY, in_process_peers=False)
    assert without.peers == ()


def test_a_shared_check_runs_once_and_again_after_a_failure() -> None:
    asked: list[int] = []

    def check() -> None:
        asked.append(0)
        assert len(asked) > 1

    shared = once(check)
    with pytest.raises(AssertionError):
        shared()
    shared()
    shared()
    assert len(asked) == 2


# ---- results -----------------------------------------------------------------------------------------------


def result(name: str, ms: float, **more: Any) -> Result:
    spread = {"1": Spread(2 * ms, 2 * ms, 2 * ms), "2": Spread(ms, ms, ms)}
    plain = Result(name, ms, 0.95 * ms, 1.05 * ms, spread, 2.0, None, None, None, None, None, None, None)
    return replace(plain, **more)


def content(*found: Result, **machine: Any) -> dict[str, Any]:
    """As a run writes it."""
    about = {**results.machine((1, 2), 64), "copy_gb_per_s": results.copy_speed(found), **machine}
    rows = [r.as_dict() for r in found]
    return json.loads(json.dumps({"machine": about, "peers": {}, "notes": [], "results": rows}))


def test_rows_of_one_room_replace_those_of_the_last_run() -> None:
    old, new = content(result("a", 1), result("b", 2)), content(result("b", 3), result("c", 4))
    assert [(r["name"], r["ms"]) for r in results.merged(old, new)["results"]] == [
        ("a", 1),
        ("b", 3),
        ("c", 4),
    ]
    elsewhere = content(result("a", 1), torch="1.0")
    assert results.merged(elsewhere, new) == new
    assert results.merged(None, new) == new
    assert results.merged({"machine": old["machine"], "results": []}, new) == new
    drawn = content(result("rasterize", 1), result("antialias", 1))
    found = results.merged(drawn, content(result("interpolate", 1)))["results"]
    assert [r["name"] for r in found] == ["rasterize", "interpolate", "antialias"]


def test_remarks_about_a_peer_stand_until_it_is_seen_again() -> None:
    old, new = content(result("a", 1)), content(result("a", 1))
    old["notes"] = ["Mitsuba 3 is left out: gone", "Embree is left out: gone", "DEODR is left out: gone"]
    new["notes"], new["peers"] = ["DEODR is left out: gone"], {"Mitsuba 3": "3.9"}
    merged = results.merged(old, new)
    assert merged["notes"] == ["Embree is left out: gone", "DEODR is left out: gone"]


def test_results_are_written_aside_and_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results" / "m.json"
    results.write(path, {"a": 1})
    assert [p.name for p in path.parent.iterdir()] == ["m.json"]

    def interrupted(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        results.write(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_line_says_what_was_measured() -> None:
    peers = (Peer("slow", 8, 8, 8, 4.0), Peer("fast", 1, 1, 1, 0.5))
    text = results.line(result("op", 2, bandwidth=0.25, gb_per_s=10.0, peers=peers))
    for words in ("2.000 ms (1.9-2.1)", "2.00 x on 2 threads", "10 GB/s, 25% of copy"):
        assert words in text
    assert "4.0 x faster than slow (8 ms)" in text
    assert "2.00 x the time of fast (1 ms)" in text
    assert "3.00 us" in results.line(result("op", 0.003))
    rows = [result("op", 2, bandwidth=b, gb_per_s=10.0) for b in (0.1, 0.25, 0.5)]
    assert results.copy_speed(rows) == 40.0  # not the luckiest


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda p: p.stem
)
def test_committed_results_are_what_this_version_writes(path: Path) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    if "machine" in found:
        assert found.keys() == content().keys()
        assert {frozenset(row) for row in found["results"]} == {frozenset(result("a", 1).as_dict())}
        names = [row["name"] for row in found["results"]]
        assert len(set(names)) == len(names)


# ---- comparison --------------------------------------------------------------------------------------------


def test_changes_count_beyond_their_spread_only() -> None:
    old = content(*(result(name, 10) for name in ("slower", "faster", "even", "gone")))
    new = content(result("slower", 12), result("faster", 8), result("even", 10.4), result("new", 1))
    found = compare.compare(old, new)
    assert [(c.name, c.ratio) for c in found.slower] == [("slower", 1.2)]
    assert [(c.name, c.ratio) for c in found.faster] == [("faster", 0.8)]
    assert (found.missing, found.added, found.machine) == (("gone",), ("new",), ())
    assert found.median == 1.04
    text = compare.report(found)
    assert text.splitlines()[0] == "1.04 x in the median: if all rows moved alike, it may be the machine"
    for line in (
        "  1.20 x  slower: slower (10 -> 12 ms)",
        "missing: gone",
        "new: new",
        "1 rows within noise",
    ):
        assert line in text.splitlines()


def test_a_change_within_the_quartiles_is_noise() -> None:
    wide = result("op", 10, low=7.0, high=13.0)
    found = compare.compare(content(wide), content(result("op", 13)))
    assert not found.slower
    assert compare.fails(found, 5) == []


@pytest.mark.parametrize(("above", "failing"), [(None, []), (10, ["op"]), (30, [])])
def test_only_a_limit_makes_a_comparison_fail(above: float | None, failing: list[str]) -> None:
    found = compare.compare(content(result("op", 10)), content(result("op", 12)))
    assert compare.fails(found, above) == failing


def test_results_of_another_machine_are_told_apart() -> None:
    found = compare.compare(content(result("op", 1), processor="Other"), content(result("op", 1)))
    assert found.machine[0].startswith("processor: Other then, ")
    assert "measured differently: processor" in compare.report(found)


# ---- command -----------------------------------------------------------------------------------------------


def test_a_run_writes_prints_and_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, quick = tmp_path / "new.json", ["--quick", "--only", "overhead", "--threads", "1", "--peers", "none"]
    assert command.main([*quick, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [row["name"] for row in found["results"]][:2] == [
        "overhead of rasterize, forward",
        "overhead of rasterize, forward and backward",
    ]
    assert all(0 < row["low"] <= row["ms"] <= row["high"] for row in found["results"])
    assert "8 rows, each checked against the oracle first" in capsys.readouterr().out
    for row in found["results"]:  # as if the last run had been a hundred times as fast
        row.update({key: row[key] / 100 for key in ("ms", "low", "high")})
    old = tmp_path / "old.json"
    old.write_text(json.dumps(found))
    again = [*quick, "--out", str(out), "--compare", str(old)]
    assert command.main([*again, "--fail-above", "50"]) == 1
    assert "slower: overhead of texture, forward" in capsys.readouterr().out


def test_peers_are_chosen_by_name() -> None:
    assert command._peers("none") == ()
    assert command._peers("all") == ("torch", "llvmpipe", "Embree", "Mitsuba 3", "DEODR")
    assert command._peers("embree,Torch") == ("Embree", "torch")
    with pytest.raises(Exception, match="no peer nobody; there are torch"):
        command._peers("nobody")
    assert command._threads("2,1,2") == (1, 2)
    with pytest.raises(Exception, match="at least 1"):
        command._threads("0")


def test_what_does_not_fit_says_so_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import bench_large

    monkeypatch.setattr(bench_large.system_memory, "available", lambda: 1_000_000)
    assert list(bench_large.groups(64)) == []
    assert "16384^2: left out, needs 17.2 GB and 0.0 GB are free" in capsys.readouterr().out


# ---- scaling -----------------------------------------------------------------------------------------------


def test_exponents_are_those_of_the_upper_half() -> None:
    x = [1, 10, 100, 1000]
    assert scaling.exponent(x, [v**2 for v in x]) == pytest.approx(2)
    assert scaling.exponent(x, [5, 5, 50, 500]) == pytest.approx(1)
    assert math.isnan(scaling.exponent([1], [1]))


def test_curves_of_one_number_replace_those_of_the_last_run() -> None:
    def curve(over: str, name: str, ms: float) -> dict[str, Any]:
        return {"over": over, "operation": name, "ms": ms}

    old = {"scaled_on": {"cores": 2}, "curves": [curve("side", "a", 1), curve("batch", "a", 2)]}
    new = {"scaled_on": {"cores": 2}, "curves": [curve("side", "a", 3), curve("side", "b", 4)]}
    found = scaling.merged(old, new)["curves"]
    assert found == [curve("side", "a", 3), curve("batch", "a", 2), curve("side", "b", 4)]
    assert scaling.merged({**old, "scaled_on": {"cores": 4}}, new) == new
    assert scaling.merged(None, new) == new


def test_a_point_is_measured_in_its_own_process() -> None:
    found = scaling.point(scaling.Setting("rasterize", triangles=100, side=1024, threads=1), 0)
    assert found["ms"] > 0
    # Two outputs of four floats a pixel; and not twice as much.
    assert 32 * 1024**2 < found["bytes"] < 60 * 1024**2
    assert "failed" in scaling.point(scaling.Setting("no such operation", side=-1), 0)


def test_peak_memory_is_that_since_the_reset() -> None:
    more = torch.ones(64 << 20, dtype=torch.uint8)
    del more
    memory.reset_peak()
    before = memory.resident_bytes()
    block = torch.ones(16 << 20, dtype=torch.uint8)
    del block
    assert 15 << 20 < memory.peak_bytes() - before < 24 << 20


# ---- charts ------------------------------------------------------------------------------------------------


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def tags(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return list(root.iter(f"{{http://www.w3.org/2000/svg}}{name}"))


def test_the_comparison_shows_each_program_where_its_time_is() -> None:
    peers = (
        Peer("llvmpipe", 40, 40, 40, 4.0),
        Peer("Embree", 400, 400, 400, 40.0),
        Peer("one sample", 1, 1, 1, 0.1),
    )
    own = (Peer("pixel pair", 1, 1, 1, 0.1),)
    root = parsed(
        charts.comparison(content(result("a <b>", 10, peers=peers), result("ours only", 5, peers=own)))
    )
    words = [text.text for text in tags(root, "text")]
    assert "a <b>" in words
    assert "4.0×" in words  # the nearest other, not a way of ours
    assert "ours only" not in words
    dots = {t.text: c for c in tags(root, "circle") for t in c}
    assert list(dots) == ["llvmpipe: 40 ms", "Embree: 400 ms", "rastergrad: 10 ms"]
    x = [
        float(dots[name].attrib["cx"]) for name in ("rastergrad: 10 ms", "llvmpipe: 40 ms", "Embree: 400 ms")
    ]
    # A logarithmic axis: from 40 to 400 as far as from 10 to 100.
    assert (x[2] - x[1]) / (x[1] - x[0]) == pytest.approx(math.log(10) / math.log(4), rel=0.01)
    width = float(root.attrib["width"])
    assert all(0 < value < width for value in x)


def test_an_axis_holds_its_values() -> None:
    axis = charts.Axis([0.4, 70], 0, 100)
    assert (axis.low, axis.high) == pytest.approx((0.3, 100))
    assert axis.ticks() == pytest.approx([1, 10, 100])
    assert 0 < axis(0.4) < axis(70) < 100
    assert charts.Axis([1.0], 0, 100).high > 1


def test_curves_leave_failed_points_out() -> None:
    points = [{"side": 2**k, "ms": 4.0**k, "bytes": 1e6 * 4**k} for k in range(5)] + [
        {"side": 64, "failed": "x"}
    ]
    curve = {"operation": "op", "over": "side", "points": points, "exponents": {"ms": 2.0, "bytes": 2.0}}
    root = parsed(charts.scaling([curve, {**curve, "over": "batch"}], "side"))
    lines = [line.attrib["points"].split() for line in tags(root, "polyline")]
    assert [len(line) for line in lines] == [5, 5]  # time and memory, of this curve only
    assert "op ~ side^2.00" in [text.text for text in tags(root, "text")]


def test_the_committed_charts_are_those_of_the_results() -> None:
    made = pages_from_code.chart_files()
    assert made
    for name, chart in made.items():
        committed = (ROOT / "docs" / "images" / name).read_text(encoding="utf-8")
        assert committed == chart, "run `python -m docs.pages_from_code`"


def test_results_become_tables(tmp_path: Path) -> None:
    assert "make bench" in pages_from_code.benchmark_table(tmp_path)
    assert "make bench" in pages_from_code.short_table(tmp_path)
    assert pages_from_code.chart_files(tmp_path) == {}
    peers = (Peer("Embree", 3, 3, 3, 2.4), Peer("pixel pair", 1, 1, 1, 0.8))
    first = result("op", 1.25, low=1.0, high=2.0, bandwidth=0.5, gb_per_s=20.0, target_ms=1.0, peers=peers)
    found = content(first, result("tiny", 0.004, target_ms=1.0), result("no target", 3.0), processor="P")
    found["notes"], found["peers"] = ["X is left out"], {"Embree": "4.4"}
    found["results"][0]["notes"] = ["Embree failed"]
    (tmp_path / "p.json").write_text(json.dumps(found), encoding="utf-8")
    short = pages_from_code.short_table(tmp_path)
    assert "| op | 1.25 (1–2) | Embree 3 |\n" in short
    assert "tiny" not in short
    assert "no target" not in short
    full = pages_from_code.benchmark_table(tmp_path)
    assert full.startswith("P, 2 threads")
    assert "| op | 1.25 (1–2) | 2.00 | 20 | 50% |  |  | Embree 3 (2.4×), pixel pair 1 (0.8×) |\n" in full
    assert "| no target | 3 (" in full
    assert full.endswith("\n- Embree: 4.4\n- X is left out\n- Embree failed\n")
    # 20 GB/s in 1.25 ms are 25 MB, which a copy would move in half the time.
    assert "| op | 25.0 MB | 0.62 | 1.25 | 2.0 | 2.00 |\n" in pages_from_code.bounds_table(tmp_path)


def test_counts_become_a_table(tmp_path: Path) -> None:
    assert "--update" in pages_from_code.instruction_table(tmp_path)
    counts = {"gcc 12": {"draw: kernel_f32": 10 * pages_from_code.COUNTED_SIDE**2}}
    (tmp_path / "instructions.json").write_text(json.dumps(counts))
    assert "| draw | `kernel_f32` | 368,640 | 10 |" in pages_from_code.instruction_table(tmp_path)


# ---- OpenGL ------------------------------------------------------------------------------------------------


@with_opengl.needs_opengl
def test_opengl_s_table_goes_to_a_file_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--triangles", "100,200", "--sides", "16", "--rounds", "1"]
    assert opengl.main([*small, "--out", str(tmp_path / "found.json")]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[2:]] == [
        ["100", "16"],
        ["200", "16"],
    ]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["opengl"]["crossing"] == "Host"
    for row in found["rows"]:
        assert row["at_edges"]
        assert row["well"]
        assert row["uv"] <= 1e-4
        assert all(value > 0 for value in row["ms"].values())
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_opengl_says_what_devices_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device, said in (("cuda:1", "sees no CUDA device"), ("meta", "must be cpu, cuda or cuda:N")):
        with pytest.raises(SystemExit):
            opengl.main(["--device", device])
        assert said in capsys.readouterr().err


def test_a_variable_is_set_for_one_way_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "1"):
        monkeypatch.delenv(opengl.INTEROP, raising=False)
        if before is not None:
            monkeypatch.setenv(opengl.INTEROP, before)
        with opengl._interop("0"):
            assert os.environ[opengl.INTEROP] == "0"
        assert os.environ.get(opengl.INTEROP) == before
