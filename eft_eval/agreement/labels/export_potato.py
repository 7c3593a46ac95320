"""Export for Potato 2.x: a project that one command starts."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eft_eval.agreement.labels.folder import Exported, new_export
from eft_eval.agreement.labels.records import Item
from eft_eval.agreement.labels.scheme import FIELDS, INSTRUCTIONS, TITLE, Field

__all__ = ["export_potato"]

_ITEMS = "data/items.jsonl"
# Potato 2.12.1 writes item texts into a <script> element as they are, and its sanitizer deletes
# words such as "data:". As character references all ASCII signs but these survive both.
_UNSAFE = re.compile(r"[\x21-\x7e](?<![A-Za-z0-9.,?!-])", re.ASCII)


def export_potato(
    items: Sequence[Item],
    out: Path | str,
    *,
    about: Mapping[str, Any] | None = None,
    port: int = 8000,
) -> Exported:
    """Write a Potato 2.x project with the items in their order, and its key.

    Every annotator logs in with a name and no password, from this computer only, and is given all
    items. Answers are kept in the project's ``annotation_output``, which can be imported as it is.

    Args:
        items: What to label. The judge's verdicts are not written.
        out: A new or empty folder.
        about: What to note in the key, such as run, sample size and seed.
        port: Where the printed command lets Potato listen.

    Raises:
        ConfigError: The items or the folder cannot be used.
    """
    import yaml

    out = Path(out)
    with new_export(items, out, about) as folder:
        (folder / _ITEMS).parent.mkdir()
        with (folder / _ITEMS).open("w", encoding="utf-8") as file:
            for item in items:
                texts = {"question": to_html(item.question), "response": to_html(item.response)}
                file.write(json.dumps({"id": item.item_id, **texts}) + "\n")
        text = yaml.safe_dump(_config(port), sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(text, "utf-8")
    start = f"potato start config.yaml --host 127.0.0.1 -p {port}"
    return Exported(out, f"(cd {shlex.quote(str(out))} && {start})")


def to_html(text: str) -> str:
    """Return HTML that shows a text as it is, line ends and indentation included."""
    escaped = _UNSAFE.sub(lambda match: f"&#{ord(match[0])};", text.replace("\t", "    "))
    escaped = re.sub(r"(?m)^ | (?= )", "&nbsp;", escaped)
    return escaped.replace("\n", "<br>")


def _config(port: int) -> dict[str, Any]:
    return {
        "annotation_task_name": TITLE,
        "annotation_instructions": INSTRUCTIONS,
        "task_dir": ".",
        "output_annotation_dir": "annotation_output",
        "host": "127.0.0.1",
        "port": port,
        "data_files": [_ITEMS],
        "item_properties": {"id_key": "id", "text_key": "response"},
        "user_config": {"allow_all_users": True, "users": []},
        "require_password": False,
        "assignment_strategy": "fixed_order",
        "instance_display": {
            "layout": {"direction": "vertical"},
            "fields": [
                {"key": name, "type": "html", "label": name.capitalize()}
                for name in ("question", "response")
            ],
        },
        "annotation_schemes": [_scheme(field) for field in FIELDS],
    }


def _scheme(field: Field) -> dict[str, Any]:
    common = {"name": field.name, "description": field.asks}
    if field.kind == "count":
        return {"annotation_type": "number", **common, "min_value": 0, "step": 1}
    if field.kind == "text":
        return {"annotation_type": "text", **common, "multiline": True}
    required = {"label_requirement": {"required": True}}
    return {"annotation_type": "radio", **common, "labels": list(field.options), **required}
