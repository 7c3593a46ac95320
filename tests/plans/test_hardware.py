from __future__ import annotations

import pytest

from eft_eval.errors import ConfigError
from eft_eval.plans.hardware import DEVICES, parse_hardware


@pytest.mark.parametrize(
    ("text", "number", "name"),
    [
        ("8xA100-80GB", 8, "A100-80GB"),
        ("a100", 1, "A100-80GB"),
        ("64 x h200", 64, "H200"),
        ("4090", 1, "4090"),
        ("2x4090", 2, "4090"),
        ("NVIDIA-L40S", 1, "L40S"),
        ("8xMI300X", 8, "MI300X"),
    ],
)
def test_known_devices(text: str, number: int, name: str) -> None:
    found = parse_hardware(text)
    assert found.number == number
    assert found.device is DEVICES[name]


def test_devices_of_ones_own() -> None:
    found = parse_hardware("3x80GB@2TB/s@300TFLOPS")
    assert found.number == 3
    assert found.device[1:5] == (80_000_000_000, 2e12, 3e14, False)
    assert parse_hardware("24GiB@1000GBps").device.memory == 24 * 2**30
    cpu = parse_hardware("CPU:64GB@40GBps@2TFLOPS").device
    assert cpu[1:5] == (64_000_000_000, 4e10, 2e12, True)


def test_this_machine_is_measured() -> None:
    found = parse_hardware("CPU:2GiB").device
    assert found.cpu
    assert found.memory == 2 * 2**30
    assert 5e8 < found.bandwidth < 2e12
    assert 1e9 < found.compute < 1e14


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("8xA100-90GB", "did you mean 'A100-80GB'"),
        ("", "expected 8xA100-80GB"),
        ("8x", "expected"),
        ("0xA100", "1 to 100,000"),
        ("80GB", "expected"),
        ("0GB@100GBps", "no number from 0.001"),
        ("1.2.3GB@100GBps", "no number from 0.001"),
        (f"80GB@0.{'0' * 320}1GBps", "no number from 0.001"),
        (f"{'9' * 400}GB@1GBps", "to 1,000,000,000"),
        (f"80GB@{'9' * 400}GBps", "to 1,000,000,000"),
        (f"CPU:8GB@1GBps@{'9' * 400}TFLOPS", "to 1,000,000,000"),
        (f"{'9' * 5000}xA100", "1 to 100,000"),
        (f"{'0' * 5000}xA100", "1 to 100,000"),
        ("CPU:fast", "expected"),
        ("CPU:4GB@1TFLOPS", "expected"),
    ],
)
def test_what_names_no_machine_is_one_line(text: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        parse_hardware(text)
    assert "\n" not in str(caught.value)
