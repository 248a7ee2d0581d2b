# SPDX-License-Identifier: MIT
"""Settings: each way in gives the same numbers, and each mistake is named."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rastergrad.capture.config import (
    Config,
    ConfigError,
    Surface,
    from_toml,
    read_config,
    small,
    to_toml,
    with_setting,
)
from testing.performances import quick_config


@given(
    seed=st.integers(0, 2**31),
    model=st.sampled_from(["free", "basis"]),
    texture=st.sampled_from([64, 2048]),
    weight=st.floats(0, 10),
    steps=st.lists(st.integers(1, 9999), min_size=1, max_size=4),
    light=st.booleans(),
)
def test_toml_round_trip(
    seed: int, model: str, texture: int, weight: float, steps: list[int], light: bool
) -> None:
    stages = tuple(
        Surface(90, n, smoothness=weight, step_size=1e-3, texture_step=1e-2, bending=2) for n in steps
    )
    config = replace(
        Config(), seed=seed, model=model, texture_side=texture, mask_weight=weight, track=stages, light=light
    )
    assert from_toml(to_toml(config), "here") == config


@pytest.mark.parametrize("config", [Config(), small(Config()), quick_config()])
def test_known_settings_survive_the_file(config: Config, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(to_toml(config))
    assert read_config(tmp_path / "config.toml") == config


def test_what_a_file_leaves_out_keeps_its_default() -> None:
    config = from_toml("seed = 4\n[pose]\nsteps = 9\n", "here")
    assert config == replace(Config(), seed=4, pose=replace(Config().pose, steps=9))


def test_settings_on_the_command_line() -> None:
    config = Config()
    for text in (
        "seed=3",
        "model=basis",
        "pose.steps=20",
        "polish.0.steps=100",
        "light=false",
        "mask_weight=2",
    ):
        config = with_setting(config, text)
    expected = replace(
        Config(),
        seed=3,
        model="basis",
        pose=replace(Config().pose, steps=20),
        polish=(replace(Config().polish[0], steps=100),),
        light=False,
        mask_weight=2.0,
    )
    assert config == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed", "NAME=VALUE"),
        ("sed=3", "no setting 'sed'.*seed, model"),
        ("pose.stops=3", r"no setting 'pose.stops'.*steps, head_px"),
        ("polish.3.steps=1", "from 0 to 0; got '3'"),
        ("polish.0=1", "polish.0.steps"),
        ("seed.x=1", "seed is a single value"),
        ("seed=1.5", "must be of type int; got 1.5"),
        ("light=2", "must be of type bool"),
        ("model=cubic", '"free" or "basis"; got \'cubic\''),
        ("texture_side=1000", "power of 2.*got 1000"),
        ("pose.steps=0", "at least 1; got 0"),
        ("mask_weight=-1", "at least 0; got -1"),
    ],
)
def test_mistakes_on_the_command_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        with_setting(Config(), text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed = ", "here: not TOML"),
        ("speed = 1", "here: speed: there is no such setting; here there are seed, model"),
        ("seed = true", "here: seed must be of type int; got True"),
        ("pose = 3", "here: pose: the file must be a table; got 3|pose.*table"),
        ("warp = 3", r"warp must be a list of stages.*got 3"),
        ("warp = [3]", r"warp.0 must be a table; got 3"),
        ("[[warp]]\ncell = 0.1\nhead_px = 90\nsteps = 5\n", "warp.0: .*step_size.*needed"),
        ("[[warp]]\nsell = 0.1\n", "warp.0: there is no setting 'sell'"),
        (
            "[[warp]]\ncell = 0.1\nhead_px = 90\nsteps = 0\nstep_size = 1e-3\n",
            "steps must be at least 1; got 0",
        ),
    ],
)
def test_mistakes_in_a_file(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_toml(text, "here")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_config(tmp_path / "nowhere.toml")
