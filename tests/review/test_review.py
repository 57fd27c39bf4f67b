"""What a reviewer reads is what the preview says, at its place, within its length, and nothing else."""

import copy
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from inventory.stateful import LOST
from mlops.changes.comment import LIMIT
from mlops.changes.findings import review, summary
from mlops.changes.markdown import MARKER, render
from mlops.changes.preview import ReviewError, read_plan, read_preview
from tests.conftest import CHECKOUT, Mlops
from tests.engine.provider import properties as properties_of
from tests.review.engine import GOLDEN, PREVIEWS, comment

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = {SIGNATURE: "1b47061264138c4ac30d75fd1eb44270"}
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
BUCKET = "gcp:storage/bucket:Bucket"
HOSTILE = [
    "@octocat #1 https://example.org www.example.org",
    "`` ` ```` `",
    "a ` @octocat ` `` @octocat `` ``` @octocat",
    "```\n\n# Heading\n\n</details><script>alert(1)</script>",
    "a | @octocat || \\| \\",
    "<!-- mlops-review --><img src=x onerror=alert(1)><!--",
    "*bold* _it_ [link](https://example.org) ![i](https://example.org/i) ~~s~~",
    "line\r\n\r\n- item\n1. one\n\n---\n\n    code\t\v\f\x00\x1b[31m\x85\u2028\u2029",
    "\u202etxt.exe\u2066\u200b\ufeff",
    "&lt;b&gt; &#64;octocat",
    "{} {0} {x!r} %s",
    " ",
    "",
    "`",
]


def state(name: str, inputs: Mapping[str, Any], kind: str = BUCKET, stack: str = "dev", **more: Any) -> dict[str, Any]:
    urn = f"urn:pulumi:{stack}::sample::sample:storage:Storage${kind}::{name}"
    return {"urn": urn, "custom": True, "type": kind, "inputs": inputs, **more}


def step(op: str, old: dict[str, Any] | None, new: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    urn = (new or old or {})["urn"]
    return {"op": op, "urn": urn, "oldState": old, "newState": new, "detailedDiff": None, **more}


def changed(old: Mapping[str, Any], new: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """An update of one bucket."""
    return step("update", state("b", old), state("b", new), **more)


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Review steps, as the command does."""

    def reading(*steps: dict[str, Any], **more: Any) -> Any:
        file = tmp_path / "preview.json"
        file.write_text(json.dumps({"steps": steps, "changeSummary": {}, **more}))
        return review([read_preview(file)])

    return reading


def properties(found: Any) -> list[dict[str, Any]]:
    return summary(found)["stacks"][0]["changes"][0]["properties"]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_preview_becomes_the_golden_comment(name: str) -> None:
    golden = (PREVIEWS / f"{name}.md").read_text(encoding="utf-8")
    assert comment(PREVIEWS, name) == golden, "if so it shall be: python -m tests.review.engine"


def test_what_decides_comes_first_and_fits_a_screen() -> None:
    """One machine type, one role, one image: before any count, without scrolling."""
    first, _, _ = comment(PREVIEWS, "change").partition("### Changes by layer")
    lines = [line for line in first.splitlines() if line.startswith("- ")]
    assert len(lines) < 15
    assert "changes from `n1-standard-4` to `n1-standard-8`" in first
    assert "gets `roles/storage.admin`" in first
    assert "changes from `registry.example/serve:1.0.0` to `registry.example/serve:1.1.0`" in first
    assert "- **replace** `Bucket models`: `location` changes from `EU` to `US`. Lost: the objects in it." in lines


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_a_resource_leaves_its_place(read: Any, text: str) -> None:
    """Names, types, keys, values, stacks and messages are text in code, whatever they hold."""
    kinds = [BUCKET, f"gcp:x:{text}", "nomad:index/job:Job"]
    olds, news = ({text: value, "image": value, "text": f"{value}\n{value}"} for value in (text + "1", text + "2"))
    steps = [
        step(op, state(text, olds, kind, text) if op != "create" else None, state(text, news, kind, text))
        for kind in kinds
        for op in ("replace", "update", "create", text or "odd")
    ]
    grant = {"role": text, "member": text, "bucket": text}
    steps.append(step("create", None, state(text, grant, "gcp:storage/bucketIAMMember:BucketIAMMember", text)))
    messages = [
        {"severity": severity, "message": text, "urn": steps[0]["urn"]} for severity in ("error", "warning", "info#err")
    ]
    found = read(*steps, diagnostics=messages)
    several = review([*found.previews, read_preview(PREVIEWS / "create.json")])
    for page in (render(found), render(several)):
        assert page.startswith(MARKER)
        assert "table_open" in [token.type for token in _parsed(page)]
        assert page.count("\n\n<details>\n") == page.count("\n\n</details>\n")
        # What ends a line or is not seen is written as an escape.
        assert all(character.isprintable() or character == "\n" for character in page)
        for kind, content in _outside_code(page):
            assert kind in ("text", "html_block"), (kind, content)
            assert not re.search(r"octocat|example\.org|alert|onerror|txt\.exe|bold|Heading", content), content
            if kind == "html_block":
                assert re.fullmatch(
                    r"<!-- mlops-review -->|<details>|<summary>[^<]*</summary>|</details>|",
                    content,
                ), content


def _parsed(page: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page)


def _outside_code(page: str) -> Iterator[tuple[str, str]]:
    """What a renderer of Markdown makes of a page, without its code: kind and content."""
    for token in _parsed(page):
        if token.type == "html_block":
            lines = re.sub("<code>[^<]*</code>", "", token.content).strip().split("\n")
            yield from (("html_block", line) for line in lines)
        for inner in token.children or []:
            if inner.type not in ("code_inline", "softbreak", "strong_open", "strong_close", "em_open", "em_close"):
                yield inner.type, inner.content


@pytest.mark.parametrize(
    "steps",
    [
        [step("replace", state(f"{'ä' * 300}{n}", {"a": 1}), state(f"{'ä' * 300}{n}", {"a": 2})) for n in range(3000)],
        [step("update", state(f"b{n}", {"image": "x"}), state(f"b{n}", {"image": "🦀" * n})) for n in range(2000)],
        [changed({"t": "a\n" * 9000}, {"t": "b\n" * 9000 + "`" * 70_000})],
        [changed({}, {f"k{n}": "v" * 500 for n in range(9000)})],
        [step("create", None, state("b", {}, "|" * 9_000)) for _ in range(2)],
        [{**step("create", None, state("b", {})), "urn": f"urn:pulumi:dev::p::x:l{n}:L$a:b:C::n"} for n in range(3000)],
    ],
    ids=["names", "values", "text", "properties", "type", "layers"],
)
def test_a_comment_is_never_too_long_and_says_what_it_left_out(read: Any, steps: list[dict[str, Any]]) -> None:
    message = {"severity": "error", "message": "e" * 100_000}
    for diagnostics in ([], [message] * 50):
        page = render(read(*steps, diagnostics=diagnostics))
        assert len(page.encode()) <= LIMIT
        assert page.count("\n\n<details>\n") == page.count("\n\n</details>\n")
        assert re.search(r"left out, for length|more characters|too many to compare", page)
        # Length is taken from what there is most of, never from a whole section.
        assert "### Changes by layer" in page
        assert ", property by property</summary>" in page
        assert "sections left out" not in page
        urns = {one["urn"] for one in steps}
        assert len(urns) == 1 or re.search(r"[\d,]+ changes left out", page)
        assert len({urn.partition("$")[0] for urn in urns}) == 1 or re.search(r"[\d,]+ layers left out", page)


def test_one_long_text_does_not_crowd_the_others_out(read: Any) -> None:
    texts = ["\n".join(f"line {n} {side}" for n in range(300)) for side in "ab"]
    steps = [step("update", state(f"b{n}", {"t": texts[0]}), state(f"b{n}", {"t": texts[1]})) for n in range(100)]
    steps.append(changed({"t": "a\n" * 9000}, {"t": "b\n" * 9000}))
    page = render(read(*steps))
    assert len(page.encode()) <= LIMIT
    assert page.count("\n**update** `b") == 101
    assert "9,001 lines become 9,001 lines, too many to compare here." in render(read(steps[-1]))


def test_many_stacks_share_the_length(tmp_path: Path) -> None:
    previews = []
    for number in range(120):
        file = tmp_path / f"{number}.json"
        steps = [
            step("replace", state(f"b{n}", {"a": "x" * 90}, stack=f"s{number}"), state(f"b{n}", {"a": 2}))
            for n in range(40)
        ]
        for one in steps:
            one["urn"] = one["oldState"]["urn"]
        file.write_text(json.dumps({"steps": steps, "changeSummary": {"replace": 40}}))
        previews.append(read_preview(file))
    page = render(review(previews))
    assert len(page.encode()) <= LIMIT
    # One thing that is true of all is told once.
    assert page.count("- **replace** `Bucket b7`") == 1


def test_time_grows_with_the_number_of_steps(read: Any) -> None:
    def seconds(count: int) -> float:
        steps = [
            step("replace", state(f"b{n}", {"a": "1", "c": {"d": n}}), state(f"b{n}", {"a": "2", "c": {"d": -1}}))
            for n in range(count)
        ]
        start = time.process_time()
        render(read(*steps))
        return time.process_time() - start

    seconds(100)
    assert seconds(8000) < 3 * 8 * seconds(1000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ('{"steps": [', "is no whole JSON document"),
        ("error: no stack selected", "is no whole JSON document"),
        ('{"a": 1}{"b": 2}', "is no whole JSON document"),
        ("[" * 100_000, "is no whole JSON document"),
        ("[]", "is not a preview"),
        ('{"steps": [{"op": 3, "urn": ""}]}', r"is not a preview \(steps.0.op"),
        ("{}", "has no steps and no diagnostics"),
        ('{"resourcePlans": {}}', "is an update plan"),
        ('{"version": 3, "deployment": {}}', "is a stack's state"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_preview_is_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "preview.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ReviewError, match=message) as told:
        read_preview(file)
    assert "\n" not in str(told.value)


def test_the_command_prints_or_refuses(tmp_path: Path) -> None:
    mlops = Mlops(tmp_path)
    change, plan = (str(PREVIEWS / name) for name in ("change.json", "change.plan.json"))
    assert mlops("review", change, "--plan", plan).stdout == (PREVIEWS / "change.md").read_text(encoding="utf-8")
    assert mlops.json("review", change)["stacks"][0]["counts"]["replace"] == 2
    for arguments, message in (
        ([plan], f"mlops: {plan}: is an update plan, not a preview; give it with --plan\n"),
        ([change, change], "mlops: two of the previews are of the stack dev; give one of each stack\n"),
    ):
        refused = mlops("review", *arguments)
        assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", message)


def test_no_secret_is_shown_from_wherever_it_comes(tmp_path: Path, read: Any) -> None:
    """Not a ciphertext, not a plaintext (`--show-secrets`), not what was plain before it became a secret."""
    marked = {**SECRET, "plaintext": '"hunter2"', "ciphertext": "v1:hunter2"}
    plan = json.loads((PREVIEWS / "change.plan.json").read_text())
    for resource in plan["resourcePlans"].values():
        for values in ((resource.get("goal") or {}).get("inputDiff") or {}).values():
            if isinstance(values, dict):
                values.update(dict.fromkeys(values, marked))
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    compared = review([read_preview(PREVIEWS / "change.json")], read_plan(tmp_path / "plan.json"))
    became = read(
        changed(
            {"a": "hunter2", "l": [{"b": marked}], "z": "[secret]"},
            {"a": "[secret]", "l": [{"b": "[secret]"}], "n": marked, "z": "hunter2"},
        )
    )
    for found in (compared, became):
        assert "hunter2" not in render(found)
        assert "hunter2" not in json.dumps(summary(found))
    assert properties(became) == [
        {"path": "a", "replaces": False, "hidden": False, "old": "[secret]", "new": "[secret]"},
        {"path": "n", "replaces": False, "hidden": False, "new": "[secret]"},
        {"path": "z", "replaces": False, "hidden": False, "old": "[secret]", "new": "[secret]"},
    ]


def test_properties_are_told_at_the_leaf_that_differs(read: Any) -> None:
    old = {
        "node": {"machine": "a", "labels": {"x.y": "1"}},
        "tags": ["a", "b"],
        "containers": [{"name": "one", "image": "i:1"}, {"name": "two", "image": "i:1"}],
        "rules": [{"p": 1}, {"p": 2}],
    }
    new = {
        "node": {"machine": "b", "labels": {"x.y": "2"}},
        "tags": ["a"],
        "containers": [
            {"name": "zero", "image": "i:0"},
            {"name": "one", "image": "i:1"},
            {"name": "two", "image": "i:2"},
        ],
        "rules": [{"p": 1}, {"p": 3}],
        "url": UNKNOWN,
    }
    told = {one["path"]: (one.get("old"), one.get("new")) for one in properties(read(changed(old, new)))}
    assert told == {
        "node.machine": ("a", "b"),
        'node.labels["x.y"]': ("1", "2"),
        "tags": (["a", "b"], ["a"]),
        "containers[0]": (None, {"name": "zero", "image": "i:0"}),
        "containers[2].image": ("i:1", "i:2"),
        "rules[1].p": (2, 3),
        "url": (None, "[unknown]"),
    }


def test_what_the_provider_names_beyond_the_inputs_is_told(read: Any) -> None:
    """Drift: what somebody changed in the cloud is in the outputs of the old state only."""
    one = changed({"a": 1}, {"a": 1}, detailedDiff={"labels.owner": {"kind": "delete", "inputDiff": False}})
    one["oldState"]["outputs"] = {"labels": {"owner": "me"}}
    assert [(each["path"], each["old"]) for each in properties(read(one))] == [("labels.owner", "me")]


def test_hidden_properties_stay_hidden(read: Any) -> None:
    olds, news = (
        {"a": {"b": f"{word}-value\n"}, "image": f"i:{word}", "job": f'image = "i:{word}"\n'} for word in ("old", "new")
    )
    one = changed(olds, news)
    one["newState"]["hideDiff"] = [["a"], ["image"], ["job"]]
    found = read(one)
    page = render(found)
    assert "`a.b` changes (the program hides it)" in page
    assert not re.search("old-value|new-value|i:old|i:new", page + json.dumps(summary(found)))


@pytest.mark.parametrize(
    ("op", "more", "line"),
    [
        ("delete", {"retainOnDelete": True}, "**delete** `Bucket b`: It stays where it is: Pulumi only forgets it."),
        ("delete", {"protect": True}, "**delete** `Bucket b`: It is protected, so Pulumi refuses to delete it."),
        ("replace", {"protect": True}, "**replace** `Bucket b`: It is protected, so Pulumi refuses to replace it."),
        ("delete-replaced", {}, "**replace** `Bucket b`: No property is named as the reason. Lost: the objects in it."),
    ],
)
def test_losses_say_what_becomes_of_it(read: Any, op: str, more: dict[str, Any], line: str) -> None:
    old = state("b", {"a": 1}, **more)
    page = render(read(step(op, old, None if op == "delete" else old)))
    assert f"- {line}\n" in page


def test_the_difference_of_two_long_values_is_what_is_shown(read: Any) -> None:
    digest = "registry.example/" + "a" * 300
    page = render(read(changed({"image": f"{digest}1"}, {"image": f"{digest}2"})))
    assert re.search("changes from `…a+1` to `…a+2`", page)


def test_a_grant_that_was_there_is_none(read: Any) -> None:
    kind = "gcp:storage/bucketIAMBinding:BucketIAMBinding"
    old = {"bucket": "m", "role": "r", "members": ["user:a"]}
    page = render(
        read(step("update", state("b", old, kind), state("b", {**old, "members": ["user:a", "user:b"]}, kind)))
    )
    assert "`user:b` gets `r`" in page
    assert "`user:a` gets" not in page


def test_what_becomes_protected_is_told(read: Any) -> None:
    page = render(read(step("same", state("b", {}), state("b", {}, protect=True))))
    assert "- it is protected from now on\n" in page


def test_a_replacement_told_in_three_steps_is_one(read: Any) -> None:
    old, new = state("b", {"a": 1}), state("b", {"a": 2})
    three = [
        step("delete-replaced", old, None),
        step("replace", old, new, replaceReasons=["a"]),
        step("create-replacement", None, new),
    ]
    page = render(read(*three))
    assert "**Stack `dev`**: 1 replaced\n" in page
    assert "- **replace** `Bucket b`: `a` changes from `1` to `2`. Lost: the objects in it.\n" in page


def test_the_property_that_forces_a_replacement_is_named(read: Any) -> None:
    one = step(
        "replace",
        state("b", {"node": {"zone": "a", "size": 1}, "project": "p"}),
        state("b", {"node": {"zone": UNKNOWN, "size": 2}, "project": "p"}),
        replaceReasons=["node"],
        detailedDiff={"node.zone": {"kind": "update-replace", "inputDiff": True}},
    )
    page = render(read(one))
    assert "`node.zone` changes from `a` to `[unknown]`" in page
    assert "(known only when it is applied, so it may stay as it is)" in page


@pytest.mark.parametrize(
    ("kind", "old", "new", "line"),
    [
        (BUCKET, {"forceDestroy": False}, {"forceDestroy": True}, "`forceDestroy` changes from `false` to `true`."),
        (
            "gcp:container/cluster:Cluster",
            {"deletionProtection": True},
            {"deletionProtection": False},
            "`deletionProtection`",
        ),
        (
            "gcp:compute/instance:Instance",
            {"machineType": "a"},
            {"machineType": "b"},
            "`machineType` changes from `a` to `b`.",
        ),
        (
            "nomad:index/job:Job",
            {"jobspec": "a\n cpu = 1\n"},
            {"jobspec": "a\n cpu = 2\n"},
            "`jobspec: cpu` changes from `1` to `2`.",
        ),
        (
            "nomad:index/job:Job",
            {"hcl2": {"vars": {"image_x": "1"}}},
            {"hcl2": {"vars": {"image_x": "2"}}},
            "`hcl2.vars.image_x` changes from `1` to `2`.",
        ),
        (
            "a:b:C",
            {"spec": {"serviceAccountName": "a"}},
            {"spec": {"serviceAccountName": "b"}},
            "`spec.serviceAccountName` changes from `a` to `b`.",
        ),
        (
            "gcp:storage/bucketIAMBinding:BucketIAMBinding",
            {"bucket": "m", "role": "r", "members": ["user:a"]},
            {"bucket": "m", "role": "r", "members": ["user:a", "allUsers"]},
            "`allUsers` gets `r` on `bucket m`.",
        ),
        (
            "gcp:compute/firewall:Firewall",
            {"network": "n", "sourceRanges": ["10.0.0.0/8"], "allows": [{"protocol": "tcp"}]},
            {"network": "n", "sourceRanges": ["10.0.0.0/8", "::/0"], "allows": [{"protocol": "tcp"}]},
            "`all machines in n` is open to `::/0`: `tcp`.",
        ),
    ],
)
def test_what_can_hurt_is_found_in_its_direction(read: Any, kind: str, old: Any, new: Any, line: str) -> None:
    """The same change the other way round says something else, or nothing."""
    there, back = (
        render(read(step("update", state("b", a, kind), state("b", b, kind)))).partition("### Changes by layer")[0]
        for a, b in ((old, new), (new, old))
    )
    assert line in there
    assert line not in back


def test_what_a_refresh_finds_as_it_was_is_no_change(read: Any) -> None:
    """`pulumi preview --refresh --json` tells of every resource as refreshed, and of what differs once more."""
    found = read(step("refresh", state("b", {}), state("b", {})), changed({"location": "EU"}, {"location": "US"}))
    assert [each.op for each in found.previews[0].steps] == ["update"]


def test_a_policy_that_cannot_be_read_may_allow_anything(read: Any) -> None:
    odd = state("p", {"policyData": '{"bindings": 5}'}, "gcp:projects/iAMPolicy:IAMPolicy")
    page = render(read(step("create", None, odd)))
    assert "- **create** `IAMPolicy p`: `[unknown]` gets `[unknown]` on `project of the provider`." in page


def test_a_plan_that_does_something_else_is_told_first(tmp_path: Path) -> None:
    preview = read_preview(PREVIEWS / "change.json")
    plan = json.loads((PREVIEWS / "change.plan.json").read_text())
    urn = {one.rpartition("::")[2]: one for one in plan["resourcePlans"] if "gcp:" in one}
    other = copy.deepcopy(plan)
    other["resourcePlans"][urn["models"]]["steps"] = ["delete"]
    other["resourcePlans"][urn["ssh"]]["goal"]["inputDiff"]["updates"]["sourceRanges"] = ["10.0.0.0/8"]
    del other["resourcePlans"][urn["artifacts"]]
    for document, lines in (
        (plan, []),
        (
            other,
            [
                "- **delete** `Bucket models`: The plan is to `delete`, the preview says `replace`.",
                "- **update** `Firewall ssh`: The plan sets `sourceRanges` otherwise than the preview.",
                "- **update** `Bucket artifacts`: The plan is to `nothing`, the preview says `update`.",
            ],
        ),
    ):
        (tmp_path / "plan.json").write_text(json.dumps(document))
        page = render(review([preview], read_plan(tmp_path / "plan.json")))
        told = page.partition("### The plan is not what was previewed\n\n")[2].partition("\n\n")[0]
        assert sorted(told.splitlines()) == sorted(lines)
        assert ("does what its preview shows" in page) == (not lines)


def test_a_plan_of_another_stack_is_refused(tmp_path: Path) -> None:
    text = (PREVIEWS / "change.plan.json").read_text().replace("urn:pulumi:dev::", "urn:pulumi:prod::")
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ReviewError, match="the plan is of the stack prod, and none of the previews is"):
        review([read_preview(PREVIEWS / "change.json")], read_plan(tmp_path / "plan.json"))


def test_every_type_that_holds_something_exists() -> None:
    """A misspelt type would be told among the others, without what is lost."""
    for token in LOST:
        properties_of(token)


def test_the_example_in_the_docs_is_the_golden_comment() -> None:
    page = (CHECKOUT / "docs/how-to/review-a-change.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^> ?(.*)$", page.partition("`mlops review`\n")[2].partition("\n| under")[0], re.MULTILINE)
    assert len(quoted) > 10
    assert "\n".join(quoted) in (PREVIEWS / "change.md").read_text(encoding="utf-8")
    assert MARKER in page


MARKED = {**SECRET, "ciphertext": "v1:xx"}
SIDES = {
    # The list of which one item is a secret, in the one form and the other.
    "an item of a list": ({"command": ["--token", MARKED]}, {"command": ["--token", "hunter2"]}),
    "an item that came out of a secret": ({"command": ["--flag", "hunter2"]}, {"command": ["--flag", MARKED]}),
    "an item that moved": ({"command": ["run", MARKED]}, {"command": ["hunter2", "run"]}),
    "a list that grew": ({"command": [MARKED]}, {"command": ["a", "b", "hunter2"]}),
    "maps by their places": ({"l": [{"v": MARKED}, {"v": "b"}]}, {"l": [{"v": "b"}, {"v": "hunter2"}]}),
    "maps by their names": ({"l": [{"name": "a", "v": MARKED}]}, {"l": [{"name": "a", "v": "hunter2"}]}),
    "a map with another name": ({"l": [{"name": "a", "v": MARKED}]}, {"l": [{"name": "b", "v": "hunter2"}]}),
    "a list in a map": ({"l": [{"v": {"w": [MARKED]}}]}, {"l": [{"v": {"w": ["hunter2"]}}]}),
    "another type": ({"v": {"a": MARKED}}, {"v": "hunter2"}),
    "another type the other way": ({"v": ["hunter2"]}, {"v": MARKED}),
    "a map instead of a list": ({"v": [MARKED]}, {"v": {"a": "hunter2"}}),
}


@pytest.mark.parametrize("case", SIDES)
def test_the_other_side_of_a_secret_is_hidden_at_any_depth(read: Any, case: str) -> None:
    old, new = SIDES[case]
    for before, after in ((old, new), (new, old)):
        for details in ({}, {"diffReasons": [*old]}):
            found = read(changed(before, after, **details))
            assert "hunter2" not in render(found) + json.dumps(summary(found)), (before, details)
            assert summary(found)["stacks"][0]["changes"][0]["properties"]


def test_what_the_program_names_as_secret_outputs_is_hidden_in_inputs_too(read: Any) -> None:
    names = {"additionalSecretOutputs": ["content"]}
    old, new = (state("b", {"content": f"hunter2 {n}", "other": n}, outputs={"content": "hunter2"}) for n in "12")
    created = {**state("c", {"content": "hunter2"}), **names}
    found = read(step("update", old, {**new, **names}), step("create", None, created))
    for text in (render(found), json.dumps(summary(found))):
        assert "hunter2" not in text
    assert "other" in render(found)


JOBSPEC = """
job "x" {
  group "a" {
    task "t" {
      env {
        DB_PASSWORD = "hunter2"
        SHOWN       = "yes"
      }
      config {
        args = ["--api-key", "hunter2", "--port", "80"]
      }
      template {
        data = <<EOF
curl -H 'Authorization: Bearer hunter2' https://me:hunter2@host/x?sig=hunter2
EOF
      }
    }
  }
}
"""
CLEAR = {
    "jobspec": JOBSPEC,
    "manifest": '{"env": [{"name": "A_TOKEN", "value": "hunter2"}], "shown": 1}',
    "env": [{"name": "A_TOKEN", "value": "hunter2"}, {"name": "B", "value": "shown"}],
    "args": ["--password", "hunter2", "shown"],
    "url": "https://host/x?access_token=hunter2",
    "settings": {"dbPassword": "hunter2", "shown": True},
    "key": "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
}


def test_what_stands_in_clear_and_is_a_credential_is_masked_and_still_told_as_a_change(read: Any) -> None:
    other = json.loads(json.dumps(CLEAR).replace("hunter2", "hunter2hunter3"))
    created, deleted = step("create", None, state("c", CLEAR)), step("delete", state("d", CLEAR), None)
    found = read(changed(CLEAR, other), created, deleted)
    for text in (render(found), json.dumps(summary(found))):
        assert "hunter" not in text
    changes = next(one for one in summary(found)["stacks"][0]["changes"] if one["op"] == "update")["properties"]
    assert {change["path"].partition("[")[0].partition(".")[0] for change in changes} == {*CLEAR}


def test_a_diagnostic_repeats_no_credential(tmp_path: Path) -> None:
    message = "error: cannot log in with password=hunter2 at https://me:hunter2@host/: token: hunter2"
    file = tmp_path / "dev.json"
    urn = state("b", {})["urn"]
    diagnostics = [{"urn": urn, "message": message, "severity": each} for each in ("error", "warning", "info#err")]
    file.write_text(json.dumps({"steps": [], "diagnostics": diagnostics}))
    found = review([read_preview(file)])
    for text in (render(found), json.dumps(summary(found))):
        assert "hunter2" not in text
        assert "cannot log in" in text
