"""`eft-eval agree` on a judged run, from files to files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from judged_runs import (
    DATE,
    JUDGE,
    PEOPLE,
    VERDICTS,
    Run,
    counted,
    fails,
    hashes,
    items_in_order,
    write,
    write_judged_run,
    write_labels,
)

from eft_eval.agreement import pair_agreement


def majority_of(item: int) -> float | None:
    votes = [given[item] for given in PEOPLE.values()]
    yes = sum(v > 0 for v in votes if v is not None)
    no = sum(v == 0 for v in votes if v is not None)
    return None if yes == no else float(yes > no)


def test_agree_prints_and_writes_everything(
    run: Run, run_dir: Path, labels: Path, tmp_path: Path
) -> None:
    before = hashes(run_dir)
    done = run("agree", "--labels", labels, "--run", run_dir, "--json", tmp_path / "a.json")
    assert (done.code, done.err) == (0, "")
    assert hashes(run_dir) == before
    found = json.loads((tmp_path / "a.json").read_text("utf-8"))

    # the pair, by the statistics on lists made by hand
    judge = [None if v is None else float(v > 0) for v in VERDICTS[:40]]
    prompts = [item // 2 for item in range(40)]
    wanted = pair_agreement([majority_of(i) for i in range(40)], judge, clusters=prompts)
    assert found["pair"]["table"] == [list(row) for row in wanted.table or ()]
    assert found["pair"]["agreement"]["rate"] == wanted.agreement.rate
    assert wanted.clustered is not None
    clustered = found["pair"]["clustered"]
    assert clustered["standard_error"] == pytest.approx(wanted.clustered.standard_error)
    assert found["clusters"] == 20
    assert found["counted"]["unscored"] == {"abstained": 3}
    assert found["counted"]["items"] == 40
    assert found["counted"]["unlabelled"] == 18
    assert found["counted"]["tied"] == sum(majority_of(i) is None for i in range(40))
    assert found["judge"] == JUDGE
    assert found["annotators"] == ["A1", "A2", "A3"]
    assert found["alternative"]["annotators"][0]["n"] >= 30
    assert [one["metric"] for one in found["corrected"]] == ["fact_any_error", "fact_errors"]
    for word in ("jane", "example", "bob", "carol"):
        assert word not in done.out + json.dumps(found)
    for words in (
        "√(p(1-p)/(n-1))",
        "Cohen's κ",
        "McNemar",
        "Krippendorff's α (nominal), people",
        "base rate: error, by judge-1",
        "baseline: always people's commonest answer",
        "not scored: 3 abstained",
        "61 of 100, printed 61 %",
        "winning rate ω",
        "prediction-powered",
        "Rogan–Gladen",
    ):
        assert words in done.out, words


def test_agree_takes_files_as_a_shell_gives_them(run: Run, run_dir: Path, tmp_path: Path) -> None:
    items = items_in_order(run_dir)
    files = [
        write_labels(tmp_path / f"{name}.csv", items, {name: given})
        for name, given in PEOPLE.items()
    ]
    at_once = run("agree", "--labels", *files, "--run", run_dir)
    one_by_one = run("agree", *(x for f in files for x in ("--labels", f)), "--run", run_dir)
    assert at_once.code == 0
    assert at_once == one_by_one
    fails(run("agree", "--labels", files[0], "plan", "--half-width", "0.1"), "not options of")


def test_agree_with_an_annotator_as_the_judge(run: Run, run_dir: Path, tmp_path: Path) -> None:
    items = items_in_order(run_dir)
    people = {**PEOPLE, "gpt-x": VERDICTS}
    path = write_labels(tmp_path / "l.csv", items, people)
    out = tmp_path / "a.json"
    done = run("agree", "--labels", path, "--judge", "gpt-x", "--json", out)
    assert done.code == 0
    found = json.loads(out.read_text("utf-8"))
    assert found["judge"] == "gpt-x"
    assert found["annotators"] == ["A1", "A2", "A3"]
    assert found["clusters"] is None  # no run and no key: prompts are not known
    judged = run("agree", "--labels", path, "--judge", "gpt-x", "--run", run_dir, "--json", out)
    assert judged.code == 0
    assert json.loads(out.read_text("utf-8"))["clusters"] == 30
    # the run's own judge by its name is the run's verdicts
    own = run("agree", "--labels", path, "--judge", JUDGE, "--run", run_dir)
    assert own == run("agree", "--labels", path, "--run", run_dir)
    assert run("agree", "--labels", path, "--judge", "jane@example.com").out.startswith("A")
    fails(run("agree", "--labels", path, "--judge", "nobody"), "'nobody'", "A1, A2, A3, A4")


def test_an_annotator_called_like_the_runs_judge_is_no_person(
    run: Run, run_dir: Path, tmp_path: Path
) -> None:
    items = items_in_order(run_dir)
    alone = write_labels(tmp_path / "p.csv", items, PEOPLE)
    mixed = write_labels(tmp_path / "m.csv", items, {**PEOPLE, JUDGE: VERDICTS})
    out = tmp_path / "a.json"
    found = []
    for labels, more in ((alone, ()), (mixed, ("--judge", JUDGE))):
        done = run("agree", "--labels", labels, "--run", run_dir, *more, "--json", out)
        assert done.code == 0
        found.append(json.loads(out.read_text("utf-8")))
    for name in ("judge", "annotators", "each", "alpha_with_judge", "people"):
        assert found[0][name] == found[1][name]
    out = tmp_path / "c.json"
    metrics = []
    for labels, more in ((alone, ()), (alone, ("--judge", JUDGE)), (mixed, ("--judge", JUDGE))):
        assert run("correct", run_dir, "--labels", labels, *more, "--json", out).code == 0
        metrics.append(json.loads(out.read_text("utf-8"))["metrics"])
    assert metrics[0] == metrics[1] == metrics[2]


def test_agree_on_the_raw_scale(run: Run, run_dir: Path, labels: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    done = run("agree", "--labels", labels, "--run", run_dir, "--rule", "raw", "--json", out)
    assert done.code == 0
    found = json.loads(out.read_text("utf-8"))
    assert [alpha["metric"] for alpha in found["alpha"]] == ["nominal", "ordinal", "interval"]
    assert found["pair"]["scale"]["quadratic"]["weights"] == "quadratic"
    assert found["ceiling"]["measure"] == "mean absolute error"
    assert found["paper"] is None
    for words in ("κ, quadratic weights", "Spearman", "α (interval)"):
        assert words in done.out


def test_agree_by_task(run: Run, tmp_path: Path) -> None:
    folder = write_judged_run(tmp_path / "run", counted(VERDICTS))
    results = json.loads((folder / f"results_{DATE}.json").read_text("utf-8"))
    for name in ("results", "configs"):
        results[name]["hh_fact"] = results[name]["eli5_fact"]
    (folder / f"results_{DATE}.json").write_text(json.dumps(results), "utf-8")
    samples = (folder / f"samples_eli5_fact_{DATE}.jsonl").read_text("utf-8")
    (folder / f"samples_hh_fact_{DATE}.jsonl").write_text(samples, "utf-8")
    items = items_in_order(folder)
    assert len(items) == 120
    path = write_labels(tmp_path / "l.csv", items, {"a": [*PEOPLE["carol"], *PEOPLE["carol"]]})
    out = tmp_path / "a.json"
    done = run("agree", "--labels", path, "--run", folder, "--json", out)
    found = json.loads(out.read_text("utf-8"))
    assert sorted(found["pair"]["strata"]) == ["eli5_fact", "hh_fact"]
    assert found["pair"]["strata"]["hh_fact"]["n"] == 55
    assert [one["task"] for one in found["corrected"]] == ["eli5_fact"] * 2 + ["hh_fact"] * 2
    assert found["clusters"] == 60  # the same question in both tasks
    assert "By stratum" in done.out
    alone = run("agree", "--labels", path, "--run", folder, "--task", "hh_fact", "--json", out)
    assert alone.code == 0
    found = json.loads(out.read_text("utf-8"))
    assert found["counted"]["items"] == 60
    assert found["counted"]["dropped"] == {"no item has this id": 60}
    assert found["pair"]["strata"] == {}


def test_agree_and_bad_files(run: Run, run_dir: Path, labels: Path, tmp_path: Path) -> None:
    items = items_in_order(run_dir)
    head = "item_id,annotator,value\n"
    fails(run("agree", "--run", run_dir), "--labels FILE")
    fails(run("agree", "--labels", tmp_path / "none.csv"), "none.csv")
    fails(run("agree", "--labels", write(tmp_path / "u.csv", "a,b\n1,2\n")), "unknown columns", "a")
    fails(run("agree", "--labels", write(tmp_path / "e.csv", "")), "no usable labels", "empty file")
    fails(run("agree", "--labels", write(tmp_path / "h.csv", head)), "no rows under the header")
    foreign = write(tmp_path / "f.csv", f"{head}x,a,1\ny,a,0\n")
    fails(run("agree", "--labels", foreign, "--run", run_dir), "2 × no item has this id")
    twice = f"{head}{items[0].item_id},a,1\n{items[0].item_id},a,0\n"
    fails(run("agree", "--labels", write(tmp_path / "t.csv", twice)), "2 × one annotator gave diff")
    fails(run("agree", "--labels", labels, "--run", labels), "expected a results file of lm-eval")
    write_judged_run(tmp_path / "other", counted([1]))
    fails(run("agree", "--labels", labels, "--run", tmp_path), "the runs of several models")
    fails(run("agree", "--labels", labels, "--level", "95"), "level is 95")
    fails(run("agree", "--labels", labels, "--task", "eli5_fact"), "give the run with --run")
    fails(run("agree", "--labels", labels, "--json", labels), "choose another name")
    fails(run("agree", "--labels", labels, "--field", "error_counts"), "'error_count'")
    fails(run("agree", labels), "is no command of agree (plan)", "--labels FILE")
    nowhere = tmp_path / "nowhere" / "a.json"
    fails(run("agree", "--labels", labels, "--json", nowhere), "there is no folder")
    words = write(tmp_path / "w.csv", f"{head}{items[0].item_id},a,good\n")
    fails(run("agree", "--labels", words, "--run", run_dir), "--positive")

    # a BOM, mixed scales, e-mail addresses: counted and shown, nothing guessed
    rows = [f"{item.item_id},x@y.org,{i % 2}" for i, item in enumerate(items[:10])]
    rows += [f"{items[10].item_id},x@y.org,many", "gone,x@y.org,1"]
    marked = write(tmp_path / "b.csv", "\ufeff" + head + "\r\n".join(rows))
    done = run("agree", "--labels", marked, "--run", run_dir)
    assert done.code == 0
    assert "items with labels: 10" in done.out
    assert "rows not used: 1 × no item has this id" in done.out
    assert "1 × value: not on the scale of the field's other labels, which are numbers" in done.out
    assert "x@y" not in done.out
    assert "A1" in done.out


def test_agree_needs_verdicts(run: Run, tmp_path: Path) -> None:
    folder = write_judged_run(tmp_path / "run", counted([1, 0]))
    path = folder / f"samples_eli5_fact_{DATE}.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for line in lines:
        line["metrics"], line["filtered_resps"] = ["bypass"], line["resps"][0]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    results = folder / f"results_{DATE}.json"
    content = json.loads(results.read_text("utf-8"))
    content["results"]["eli5_fact"] = {"bypass,factuality": 999}
    results.write_text(json.dumps(content), "utf-8")
    labels = write_labels(tmp_path / "l.csv", items_in_order(folder), {"a": [1, 0]})
    fails(run("agree", "--labels", labels, "--run", folder), "judge it first")
    fails(run("correct", folder, "--labels", labels), "judge it first")
    fails(run("gold", "sample", folder, "--labels", labels, "--out", tmp_path / "g"), "judge it")


def test_plans(run: Run) -> None:
    assert "92 labels" in run("agree", "plan", "--half-width", "0.1", "--rate", "0.61").out
    assert "366 labels" in run("agree", "plan", "--half-width", "0.05", "--rate", "0.61").out
    mixed = run(
        *("agree", "plan", "--half-width", "0.05", "--correlation", "0.8", "--label-cost", "1"),
        *("--verdict-cost", "0.01", "--responses", "5000"),
    )
    assert "cheapest: " in mixed.out
    assert "saved" in mixed.out
    fails(run("agree", "plan", "--half-width", "0"), "half-width is 0")


def test_a_persons_folder_is_not_named(run: Run, tmp_path: Path) -> None:
    store = {"instance_id_to_label_to_value": {"i": [[{"schema": "x", "name": "number"}, "1"]]}}
    path = tmp_path / "annotation_output" / "jane doe" / "user_state.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"user_id": "jane doe", **store}), "utf-8")
    done = run("agree", "--labels", path, "--json", tmp_path / "a.json")
    assert done.code == 0
    assert "jane" not in done.out + (tmp_path / "a.json").read_text("utf-8")


def test_the_commands_load_neither_torch_nor_lm_eval(run_dir: Path, labels: Path) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['eft-eval', 'agree', '--run', {str(run_dir)!r}]\n"
        f"sys.argv += ['--labels', {str(labels)!r}]\n"
        "from eft_eval.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = ('torch', 'lm_eval', 'openai', 'transformers', 'pandas', 'datasets')\n"
        "print('HEAVY', [m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--correlation", "0.8"), "--correlation without --responses"),
        (("--responses", "50"), "--responses is of the cheapest mix; give --correlation"),
        (("--verdict-cost", "0"), "--verdict-cost is of the cheapest mix"),
        (("--correlation", "0.8", "--responses", "0"), "--responses is 0"),
        (("--correlation", "1", "--responses", "500"), "--correlation is 1; expected"),
        (("--correlation", "-0.3", "--responses", "500"), "--correlation is -0.3; expected"),
        (("--correlation", "0.2", "--responses", "100"), "more than the 100 responses"),
        (("--rate", "0.5", "--deviation", "2"), "a label is a rate or a count"),
        (("--deviation", "0"), "--deviation is 0"),
        (("--rate", "0"), "--rate is 0; expected one above 0 and below 1"),
        (("--half-width", "0.5"), "--half-width is 0.5: ±0.5 is any rate at all"),
        (("--half-width", "inf"), "--half-width is inf"),
        (("--half-width", "0.00001"), "expected a --half-width that takes at most"),
    ],
)
def test_plans_that_nobody_can_mean_are_refused(
    run: Run, given: tuple[str, ...], said: str
) -> None:
    fails(run("agree", "plan", "--half-width", "0.05", *given), said)


def table(path: Path, rows: list[str]) -> Path:
    return write(path, "\n".join(["item_id,annotator,field,value", *rows]) + "\n")


def test_words_follow_what_the_labels_are_about(run: Run, tmp_path: Path) -> None:
    said = {"al": "unsafe safe safe unsafe", "bo": "unsafe safe unsafe safe", "gpt": "unsafe " * 4}
    rows = [
        f"i{i},{who},safety,{word}"
        for who, words in said.items()
        for i, word in enumerate(words.split())
    ]
    labels = table(tmp_path / "l.csv", rows)
    done = run("agree", "--labels", labels, "--judge", "gpt", "--positive", "unsafe")
    assert "base rate: 'unsafe', by people" in done.out
    assert "not 'unsafe'" in done.out
    for word in ("error, by", "no error", "paper", "factual"):
        assert word not in done.out
    out = tmp_path / "a.json"
    run("agree", "--labels", labels, "--judge", "gpt", "--positive", "unsafe", "--json", out)
    found = json.loads(out.read_text("utf-8"))
    assert (found["event"], found["paper"]) == ("'unsafe'", None)


def test_sentences_are_no_categories_without_a_word(run: Run, tmp_path: Path) -> None:
    few = ["The first answer is better", "the second answer is better"]
    rows = [
        f"i{i},{who},q,{few[(i + (who == 'bo')) % 2]}" for i in range(6) for who in ("al", "bo")
    ]
    labels = table(tmp_path / "few.csv", rows)
    warned = run("agree", "--labels", labels)
    flat = " ".join(warned.out.split())
    assert "! q holds sentences, such as 'the first answer is better': each wording" in flat
    free = [
        f"i{i},{who},q,{who} says of {i} that it is wrong" for i in range(6) for who in ("al", "bo")
    ]
    texts = table(tmp_path / "free.csv", free)
    fails(run("agree", "--labels", texts), "q holds 12 different sentences", "--map-labels FILE")
    classes = write(tmp_path / "classes.yaml", f"{few[0]}: first\n{few[1]}: second\n")
    mapped = run(
        "agree", "--labels", labels, "--map-labels", classes, "--json", tmp_path / "a.json"
    )
    assert "sentences" not in mapped.out
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["categories"] == ["first", "second"]


def test_rows_that_were_dropped_of_another_field_are_of_no_account(
    run: Run, run_dir: Path, tmp_path: Path
) -> None:
    items = items_in_order(run_dir)[:20]
    rows = [f"{item.item_id},al,error_count,{i % 3}" for i, item in enumerate(items)]
    rows += [f"{item.item_id},al,tone,{word}" for item in items[:2] for word in ("calm", "rude")]
    labels = table(tmp_path / "l.csv", rows)
    imported = run("labels", "import", labels, "--out", tmp_path / "o.json")
    assert "4 × one annotator gave different labels" in imported.out
    for given in (labels, tmp_path / "o.json"):
        for command in (("agree", "--run", run_dir), ("correct", run_dir)):
            done = run(*command, "--labels", given)
            assert done.code == 0, done.err
            assert "rows not used" not in done.out
            assert "not used:" not in done.out
    bad = table(tmp_path / "bad.csv", [*rows, f"{items[19].item_id},bo,error_count,many"])
    assert "1 dropped rows" in run("correct", run_dir, "--labels", bad).out
