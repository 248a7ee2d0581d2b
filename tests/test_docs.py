# SPDX-License-Identifier: MIT
"""The words: programs in them run, pages and figures that they name exist; they name all that is public."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rastergrad as rg
from docs import gpu_tables, pages_from_code
from docs.docstrings import converted
from rastergrad.cli import main
from rastergrad.demo import cube

pytest.importorskip("matplotlib", reason="needs pip install 'rastergrad[demo]'")
Image = pytest.importorskip("PIL.Image", reason="needs pip install 'rastergrad[demo]'")
pytest.importorskip("numba", reason="needs pip install 'rastergrad[bench]'")

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MADE = ("generated", "_build")
TABLES = ("benchmarks.txt", "bounds.txt", "gradient-truth.txt", "instructions.txt")
PAGES = sorted(p for p in DOCS.rglob("*.md") if not set(MADE) & set(p.parts))
TOP = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
FENCE = re.compile(r"^```(\w+)?[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    """Code blocks of a page in one language."""
    return [body for name, body in FENCE.findall(path.read_text(encoding="utf-8")) if name == language]


def run(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a program in a folder, warnings as errors; returns its variables."""
    monkeypatch.chdir(folder)
    variables: dict[str, Any] = {"__name__": "program"}
    exec(compile(code, "program", "exec"), variables)
    return variables


# ---- programs ----------------------------------------------------------------------------------------------


def first_image() -> str:
    (code,) = [code for code in blocks(ROOT / "README.md", "python") if "import rastergrad" in code]
    return code


def test_the_readme_s_first_image_takes_fifteen_lines() -> None:
    assert len([line for line in first_image().splitlines() if line]) <= 15


def test_the_readme_s_program_makes_the_readme_s_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(first_image(), tmp_path, monkeypatch)
    made = np.asarray(Image.open(tmp_path / "first.png"), dtype=np.int64)
    shown = np.asarray(Image.open(DOCS / "images" / "first.png"), dtype=np.int64)
    assert made.shape == shown.shape
    # One step of 255: another processor may round a colour the other way.
    assert int(np.abs(made - shown).max()) <= 1


@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: str(p.relative_to(DOCS))
)
def test_programs_in_pages_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page are parts of one program."""
    run("\n".join(blocks(page, "python")), tmp_path, monkeypatch)


def test_the_readme_s_overview_uses_the_real_signatures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overview = blocks(ROOT / "README.md", "python")[0]
    scene = (
        "import torch, rastergrad as rg\n"
        "H = W = 8; pos = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]])\n"
        "tri = torch.tensor([[0, 1, 2]]); uv = torch.rand(3, 2); tex = torch.rand(1, 4, 4, 3)\n"
    )
    assert run(scene + overview, tmp_path, monkeypatch)["image"].shape == (1, 8, 8, 3)


# ---- what is named exists ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", rg.__all__)
def test_every_public_name_has_its_place_in_the_pages(name: str) -> None:
    pattern = re.compile(rf"^\.\. auto(function|class):: rastergrad\.{name}$", re.MULTILINE)
    assert any(pattern.search(page.read_text(encoding="utf-8")) for page in PAGES)


def test_nothing_is_documented_that_is_not_public() -> None:
    pattern = re.compile(r"^\.\. auto(?:function|class):: rastergrad\.(\w+)$", re.MULTILINE)
    found = [name for page in PAGES for name in pattern.findall(page.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(rg.__all__)


def toctrees(page: Path) -> list[str]:
    bodies = re.findall(
        r"^```\{toctree\}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    entries = [line.strip() for body in bodies for line in body.splitlines()]
    return [entry for entry in entries if entry and not entry.startswith(":") and "*" not in entry]


def test_every_page_is_in_a_toctree_and_every_entry_is_a_page() -> None:
    listed = {(page.parent / f"{entry}.md").resolve() for page in PAGES for entry in toctrees(page)}
    assert listed | {DOCS / "index.md"} == set(PAGES)


def anchors(page: Path) -> set[str]:
    """Headings as myst_heading_anchors and GitHub name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*TOP, *PAGES], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    # Code blocks are no prose, directives such as {image} are.
    fences = re.compile(r"^```(\{?)[^\n]*\n.*?^```$", re.MULTILINE | re.DOTALL)
    text = fences.sub(lambda block: block[0] if block[1] else "", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    targets += re.findall(r"^```\{(?:image|include|literalinclude)\} (\S+)$", text, re.MULTILINE)
    for target in targets:
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        full = (page.parent / path).resolve() if path else page
        if "generated" in full.parts:
            assert full.name in TABLES or full.stem in figures(), target
            continue
        assert full.exists(), target
        assert not anchor or anchor in anchors(full), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_figures_are_described_in_words(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("```{image}") == len(
        re.findall(r"^```\{image\} \S+\n:alt: .{20,}$", text, re.MULTILINE)
    )


def test_the_demo_s_page_states_the_settings_of_the_code() -> None:
    text = " ".join((DOCS / "demo.md").read_text(encoding="utf-8").split())
    for words in (
        f"uniform random number in -{cube.POSITION_NOISE:g}..{cube.POSITION_NOISE:g}",
        f"a translation within {cube.TRANSLATION:g}, the cube at distance {cube.DISTANCE:g}",
        f"half size {cube.VIEW_WINDOW:g} at distance 1; the cube's side is {2 * cube.HALF_SIDE:g}",
        f"Adam at {cube.LEARNING_RATE:g} times",
        f"below a distance of {cube.CONVERGED:g}",
    ):
        assert words in text


@pytest.mark.parametrize("command", [["render"], ["demo", "cube"], ["capture"]], ids=" ".join)
def test_every_option_of_a_command_is_documented(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    options = set(re.findall(r"--[a-z]+", capsys.readouterr().out)) - {"--help", "--nproc"}  # torchrun's
    text = (DOCS / ("demo.md" if command[0] == "demo" else "command-line.md")).read_text(encoding="utf-8")
    if command[0] != "demo":
        text = text.partition(f"## rastergrad {command[0]}\n")[2].partition("\n## ")[0]
    assert options
    table = "".join(re.findall(r"^\| `-.*$", text, re.MULTILINE))
    assert options == set(re.findall(r"--[a-z]+", table))


# ---- figures -----------------------------------------------------------------------------------------------


def figures() -> dict[str, object]:
    from docs.figures import figures

    return dict(figures())


def test_every_figure_is_shown_and_every_shown_figure_is_drawn() -> None:
    shown = {
        name
        for page in PAGES
        for name in re.findall(r"figures/generated/(\w+)\.png", page.read_text("utf-8"))
    }
    assert shown == set(figures())


@pytest.mark.parametrize("name", figures())
def test_figures_are_drawn(name: str, tmp_path: Path) -> None:
    from docs.figures import figures

    path = tmp_path / "figure.png"
    figures()[name](path, 16)
    pixels = np.asarray(Image.open(path).convert("RGB"))
    # White paper with something on it.
    assert (pixels[0, 0] == 255).all()
    assert 0.002 < (pixels < 250).any(-1).mean() < 0.95


@pytest.mark.parametrize("method", ["pixel_pair", "outline"])
def test_changes_of_single_pixels_make_that_of_the_image(method: str) -> None:
    """The figure finds them in windows of 3 x 3 pixels; here all of them are weighed and added up."""
    from benchmarks.gradient_truth.scenes import scene
    from docs.figures import gradients

    size, posed = 12, scene("two_spheres", 0)
    weight = np.zeros((size, size, 3))
    weight[..., gradients.RED] = np.random.default_rng(0).standard_normal((size, size))
    change = gradients._change(posed, size, method).numpy()
    found = (weight[..., gradients.RED] * change).sum()
    expected = (gradients._gradient(posed, weight, method) * gradients._growth(posed, size)).sum()
    # Windows and image place a pixel by different float32 roundings.
    assert abs(found - expected) < 1e-4 * np.abs(weight).sum()


# ---- what is made from code --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", pages_from_code.TABLES)
def test_tables_in_pages_are_those_of_the_results(name: str) -> None:
    table, markers = pages_from_code.TABLES[name]
    text = (ROOT / name).read_text(encoding="utf-8")
    made = pages_from_code.with_table(text, table(), markers)
    assert made == text, "run `python -m docs.pages_from_code`"


def test_a_gpu_s_table_has_what_was_measured(tmp_path: Path) -> None:
    assert "python -m benchmarks.gpu" in gpu_tables.gpu_table(tmp_path)
    common = {"name": "rasterize", "ms": 0.0751, "of_copy": 0.112, "scene": "sphere", "triangles": 100_000}
    rows = [
        {**common, "size": 1024, "batch": 1, "backward_ms": 0.5, "backward_of_copy": 0.25},
        {**common, "size": 2048, "batch": 16, "ms": 1.5},
        {
            "name": "texture",
            "error": "RuntimeError",
            "scene": "sphere",
            "triangles": 7,
            "size": 1024,
            "batch": 1,
        },
    ]
    content = {
        "gpu": {"name": "GPU X", "torch": "9.9", "nvrtc": [13, 0]},
        "compile": {"programs": 12, "first_use_s": 0.318, "cached_start_s": 0.042, "cores": 16},
        "time": {"copy_gb_per_s": 4240, "rows": rows},
    }
    (tmp_path / "x.json").write_text(json.dumps(content))
    text = gpu_tables.gpu_table(tmp_path)
    assert "GPU X, torch 9.9, NVRTC 13.0; a large copy runs at 4,240 GB/s" in text
    assert "| triangles | 100,000 |\n|---|---:|\n| rasterize | 0.0751 / 0.5 (11%, 25%) |\n" in text
    assert "| sphere, 100,000 triangles | 16 x 2048² | 1.5 |  |\n" in text


def test_a_table_takes_its_place_in_a_text() -> None:
    table = "| op | 1.25 (1–2) |\n"
    text = f"a\n{pages_from_code.BEGIN}\nold\n{pages_from_code.END}\nb\n"
    once = pages_from_code.with_table(text, table)
    assert "old" not in once
    assert table in once
    assert once.endswith("\nb\n")
    assert pages_from_code.with_table(once, table) == once


def test_gradients_become_tables(tmp_path: Path) -> None:
    assert "python -m benchmarks.gradient_truth" in pages_from_code.gradient_tables(tmp_path)
    pair = {"torus": [0.25, 0.96], "mean": [0.5, 0.75]}
    places = {
        "point": {**pair, "mean": [0.0, 1.0]},
        "pixel_pair": pair,
        "outline": {**pair, "torus": [0.99, 0.1]},
    }
    tables = dict.fromkeys(("place", "place_noise", "depth", "gain"), places)
    result = {"poses": 3, "truth_error_max": 0.0004, "tables": {**tables, "image": places}}
    (tmp_path / "gradient-truth.json").write_text(json.dumps(result), encoding="utf-8")
    text = pages_from_code.gradient_tables(tmp_path)
    assert (
        "| scene | pixel_pair | outline |\n|---|---:|---:|\n| torus | 0.250,&nbsp;0.96 | 0.990,&nbsp;0.10 |\n"
        in text
    )
    assert "| pixel_pair | 50 % | 0.500, 0.75 | 0.500, 0.75 | 0.500, 0.75 | 0.5000 |\n" in text
    assert "3 random poses" in text
    assert "at most 0.0004" in text

    sphere = {"triangles": 1280, "size": 96}
    found = [{**sphere, "method": "outline", "gain": 0.981}, {**sphere, "method": "pixel_pair", "gain": 0.2}]
    (tmp_path / "gradient-truth-density.json").write_text(json.dumps({"found": found}), encoding="utf-8")
    with_density = pages_from_code.gradient_tables(tmp_path)
    assert with_density.startswith(text)
    assert "| triangles | 96 x 96 px |\n|---:|---:|\n| 1,280 | 20 % / 98 % |\n" in with_density


def test_examples_become_pages_with_what_they_print(tmp_path: Path) -> None:
    pages = pages_from_code.example_pages(tmp_path)
    assert [p.stem for p in pages] == sorted(p.stem for p in (ROOT / "examples").glob("[0-9]*.py"))
    for page in pages:
        title, *_, last = page.read_text(encoding="utf-8").strip().splitlines()
        assert title.startswith("# ")
        assert last == "```"
        assert "prints:\n\n```text\n\n" not in page.read_text(encoding="utf-8")


def test_docstrings_become_markup_that_says_the_same() -> None:
    plain = [
        "Sum |x|.",
        "",
        "    A--B  drawing |",
        "",
        "Args:",
        "    a, b: `a`s, 2 * x_.",
        "        more",
        "Cost:",
        "    little",
    ]
    assert converted(plain) == [
        *("Sum \\|x\\|.", "", ".. code-block:: text", "", "    A--B  drawing |", ""),
        *("", ".. rubric:: Arguments", "", "", "``a``, ``b``", "    ``a``\\ s, 2 \\* x\\_.", "    more", ""),
        *("", ".. rubric:: Cost", "", "little"),
    ]


# ---- the repository ----------------------------------------------------------------------------------------


def tracked() -> list[Path]:
    """Text files of the repository; outside a clone, of this folder."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.split("\0") if listed.returncode == 0 else []
    paths = [ROOT / name for name in names if name] or [
        p for p in ROOT.rglob("*") if not {".venv", "build", ".git", *MADE} & set(p.relative_to(ROOT).parts)
    ]
    return [p for p in paths if p.is_file() and b"\0" not in p.read_bytes()[:4096]]


# The last is no host that anybody asks, but the name of what an SVG file is.
HOSTS = {"arxiv.org", "doi.org", "semver.org", "github.com", "pypi.org", "viser.studio", "www.w3.org"}


def test_files_name_no_machine_and_no_unknown_host() -> None:
    home = re.compile(r"(?<![\w.$}])/(?:home|root|work|workspace|opt|Users|tmp)/\w")
    for path in tracked():
        text = path.read_text(encoding="utf-8")
        assert not home.search(text), (path, home.search(text))
        hosts = set(re.findall(r"https?://([\w.\-]+)", text))
        assert hosts <= HOSTS, (path, hosts - HOSTS)


def test_change_notes_are_named_by_what_they_are() -> None:
    notes = sorted(p.name for p in (ROOT / "changelog").iterdir())
    assert notes or "## " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for name in notes:
        assert re.fullmatch(r"[a-z0-9-]+\.(added|changed|fixed|removed)\.md", name), name
        text = (ROOT / "changelog" / name).read_text(encoding="utf-8")
        assert 1 <= len(text.splitlines()) <= 5, name


def test_variables_in_the_sources_are_documented() -> None:
    """Each environment variable RASTERGRAD_... that code reads is in the guide's table, and no other."""
    pattern = re.compile(r"""(?:getenv\(|environ(?:\.get\()?\[?|ENV\{)["']?(RASTERGRAD_\w+)""")
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.cpp"), ROOT / "CMakeLists.txt"]
    read = {name for path in sources for name in pattern.findall(path.read_text(encoding="utf-8"))}
    table = re.findall(r"^\| `(\w+)` \|", (DOCS / "guide" / "running.md").read_text("utf-8"), re.MULTILINE)
    assert read == set(table)
