"""Finished responses on disk: found again by their own run only, whatever lies in the folder."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eft_eval.decoding.finished import FinishedResponses, response_key
from eft_eval.decoding.interruption import Interruption
from eft_eval.decoding.requests import Generation
from eft_eval.errors import ConfigError

RUN = {"composite": "one", "settings": {"max_length": "9"}}
MADE = {f"key {n}": Generation([n, n + 1], "stop" if n % 2 else "length") for n in range(6)}


def keep(folder: Path, made: dict[str, Generation] = MADE) -> Path:
    """Write responses as a process does; return its file."""
    before = {*folder.glob("*")}
    store = FinishedResponses(folder, RUN)
    for key, one in made.items():
        store.add(key, one)
    store.close()
    (file,) = {*folder.glob("*")} - before
    return file


def found(folder: Path, run: dict[str, object] = RUN) -> dict[str, Generation]:
    store = FinishedResponses(folder, run)
    return {key: one for key in MADE if (one := store.find(key)) is not None}


def test_what_was_kept_is_found_by_the_same_run_only(tmp_path: Path) -> None:
    keep(tmp_path / "new" / "folder")
    assert found(tmp_path / "new" / "folder") == MADE
    for other in ({**RUN, "composite": "two"}, {**RUN, "settings": {}}, {**RUN, "more": None}):
        assert found(tmp_path / "new" / "folder", other) == {}


def test_files_of_several_processes_count_together(tmp_path: Path) -> None:
    parts = [dict([*MADE.items()][start::2]) for start in (0, 1)]
    assert {keep(tmp_path, part) for part in parts} == {*tmp_path.iterdir()}
    assert found(tmp_path) == MADE


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(min_value=0), flip=st.none() | st.integers(min_value=0))
def test_a_damaged_file_gives_right_responses_or_none(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int | None
) -> None:
    """Cut off anywhere, or with any bit turned over, it never gives another response."""
    folder = tmp_path_factory.mktemp("kept")
    file = keep(folder)
    content = bytearray(file.read_bytes())
    if flip is None:
        del content[cut % (len(content) + 1) :]
    else:
        content[cut % len(content)] ^= 1 << (flip % 8)
    file.write_bytes(content)
    seen = found(folder)
    assert seen.items() <= MADE.items()
    if flip is not None:
        assert len(seen) >= len(MADE) - 2, "a line that is turned into two, or two into one"


def test_strange_files_are_left_alone_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = keep(tmp_path)
    name, end = file.stem.split("-")
    odd = {
        "notes.txt": b"mine",
        f"{name}-0.jsonl": b"\x00\xff" * 400,
        f"{name}-1.jsonl": b'about\n[]\n{}\n"a"\n{"key": 1, "check": 2}\n' + b"[" * 9000 + b"\n",
        f"{name}-2.jsonl": b"",
        f"{'0' * 16}-{end}.jsonl": file.read_bytes(),
    }
    for one, content in odd.items():
        (tmp_path / one).write_bytes(content)
    (tmp_path / f"{name}-3.jsonl").mkdir()
    with caplog.at_level(logging.WARNING, "eft_eval"):
        assert found(tmp_path) == MADE
    assert "5 damaged line(s) are not used" in caplog.text
    assert f"cannot read {tmp_path / name}-3.jsonl: Is a directory" in caplog.text
    assert all((tmp_path / one).read_bytes() == content for one, content in odd.items())


def test_a_line_of_another_run_is_not_believed(tmp_path: Path) -> None:
    """Also where somebody gives it this run's file name."""
    file = keep(tmp_path)
    other = {**RUN, "composite": "two"}
    FinishedResponses(tmp_path, other).add("key 0", Generation([7], "stop"))
    (theirs,) = {*tmp_path.iterdir()} - {file}
    os.replace(theirs, file)
    assert found(tmp_path) == {}


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write .*file"):
        FinishedResponses(tmp_path / "file", RUN)
    (tmp_path / "folder").mkdir(mode=0o500)
    if os.access(tmp_path / "folder", os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(ConfigError, match="write-protected"):
        FinishedResponses(tmp_path / "folder", RUN)


def test_a_full_disk_is_said_once_and_costs_what_did_not_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file-size limit stands for the disk: writes end in the middle of a line, then fail."""
    store = FinishedResponses(tmp_path, RUN)
    keys = [*MADE]
    store.add(keys[0], MADE[keys[0]])
    (file,) = tmp_path.iterdir()
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 20, limits[1]))
        with caplog.at_level(logging.WARNING, "eft_eval"):
            for key in keys[1:4]:
                store.add(key, MADE[key])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caplog.text.count("cannot keep finished responses") == 1
    for key in keys[4:]:
        store.add(key, MADE[key])
    store.close()
    assert found(tmp_path) == {key: MADE[key] for key in (keys[0], *keys[4:])}


def test_a_disk_that_is_full_from_the_start_leaves_nothing_open(tmp_path: Path) -> None:
    store = FinishedResponses(tmp_path, RUN)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = os.dup(0)  # the lowest number that is free
    os.close(before)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
        for key in [*MADE] * 20:
            store.add(key, MADE[key])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    after = os.dup(0)
    os.close(after)
    assert after < before + len(MADE)  # one more for each try; what else runs here may take some
    assert [*tmp_path.iterdir()] == []
    for key in MADE:
        store.add(key, MADE[key])
    store.close()
    assert found(tmp_path) == MADE


def test_a_run_that_is_over_takes_its_own_away(tmp_path: Path) -> None:
    """Others' responses stay, and so does a file that another process is writing."""
    folder = tmp_path / "kept"
    keep(folder)
    store = FinishedResponses(folder, RUN)
    store.forget(["key 0", "key 3"])
    assert found(folder) == {key: one for key, one in MADE.items() if key not in ("key 0", "key 3")}
    busy = FinishedResponses(folder, RUN)
    busy.add("key 0", MADE["key 0"])
    store.forget(MADE)
    assert found(folder) == {"key 0": MADE["key 0"]}
    busy.close()
    store.forget(MADE)
    assert not folder.exists()


def test_keys_tell_all_parts_apart() -> None:
    parts = [[[1, 2], 3], [[1], [2, 3]], [[1, 2], "3"], [[1, 2], 3.0], [[12], 3], [[1, 2], None]]
    assert len({response_key(one) for one in parts}) == len(parts)


# --- signals -----------------------------------------------------------------------------------


def test_a_signal_is_noted_and_the_second_one_acts() -> None:
    with Interruption() as interruption:
        assert interruption.signal is None
        signal.raise_signal(signal.SIGINT)
        assert interruption.signal is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_of_the_program_are_left_to_it() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
    assert interruption.signal is None


def test_threads_other_than_the_main_one_take_no_signals() -> None:
    raised: list[BaseException] = []

    def work() -> None:
        try:
            with Interruption():
                pass
        except ValueError as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert raised == []


def interrupted(number: signal.Signals) -> None:
    with Interruption() as interruption:
        signal.raise_signal(number)
        interruption.stop("go on")


@pytest.mark.parametrize(
    ("number", "word"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_a_command_ends_with_a_signals_exit_code(
    number: signal.Signals,
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/lm_eval", "run"])
    with pytest.raises(SystemExit) as caught:
        interrupted(number)
    assert caught.value.code == 128 + number
    assert capsys.readouterr().err == f"\neft-eval: stopped by {word}: go on\n"


def test_another_program_ends_as_the_signal_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["mine.py"])
    with pytest.raises(KeyboardInterrupt):
        interrupted(signal.SIGINT)
    child = os.fork()
    if not child:
        interrupted(signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
