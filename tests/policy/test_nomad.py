"""Rules on Nomad jobs, rights and namespaces: one changed line of a real stack breaks each."""

from collections.abc import Callable
from typing import Any

import pytest

from inventory.resources import UNKNOWN
from policy.judge import judge
from policy.parts.nomad import JOB
from policy.rules import ALL
from policy.settings import PolicySettings
from tests.policy.cases import Case, check, put
from tests.policy.conftest import TODAY, changed, stack, violated

TRAINING = "eu-sales-close-prediction"
SCALING = "nomad-eu-autoscaling-job"
GROUP = "group training"
TRAIN = "group training, task train"
STORE = "group training, task store"
VERIFY = "group training, task verify"
CLEAR = "group training, task clear"


def line(old: str, new: str) -> Callable[[dict[str, Any]], object]:
    """An edit of the jobspec: the first place of a text."""

    def edit(inputs: dict[str, Any]) -> None:
        assert old in inputs["jobspec"]
        inputs["jobspec"] = inputs["jobspec"].replace(old, new, 1)

    return edit


def config(text: str) -> Callable[[dict[str, Any]], object]:
    """An edit that adds a line to the config of task train."""
    return line("      config {\n", f"      config {{\n        {text}\n")


def train(text: str) -> Callable[[dict[str, Any]], object]:
    """An edit that adds lines to task train."""
    return line('    task "train" {\n', f'    task "train" {{\n{text}\n')


def among(task: str, text: str) -> Callable[[dict[str, Any]], object]:
    """An edit that adds lines to another task."""
    return line(f'    task "{task}" {{\n', f'    task "{task}" {{\n{text}\n')


_IDENTITY = 'identity {\n name = "google"\n aud = ["google"]\n file = true\n ttl = "1h"\n}'
_TEMPLATE = 'template {\n destination = "local/a"\n data = "b"\n}'
_SHELL = 'entrypoint = ["/bin/sh"]\n        args = ["-c", "train ${NOMAD_META_save_path}"]'
_SCRIPT = """
template {
  destination = "local/run.sh"
  data = "train {{ env \\"NOMAD_META_save_path\\" }}"
}
"""
CASES = (
    Case("nomad-dispatch-count", TRAINING, put("hcl2", "vars", "count", to="200"), f"{GROUP}: count is 200, which is"),
    Case("nomad-dispatch-count", TRAINING, line("count = var.count", "count = 11"), f"{GROUP}: count is 11"),
    Case(
        "nomad-credential-hosts",
        TRAINING,
        put("hcl2", "vars", "salesforce_hosts", to='["login.salesforce.com", "salesforce.com.example.net:443"]'),
        f"{TRAIN}: env.SALESFORCE_HOSTS has salesforce.com.example.net:443, which is below none of salesforce.com",
    ),
    Case(
        "nomad-credential-hosts",
        TRAINING,
        line('join(",", var.salesforce_hosts)', '"${NOMAD_META_data_url}"'),
        "has ${NOMAD_META_data_url}, which may be any host",
    ),
    Case(
        "nomad-credential-hosts",
        TRAINING,
        line('join(",", var.salesforce_hosts)', '"login.salesforce.com,notsalesforce.com"'),
        "has notsalesforce.com, which",
    ),
    Case(
        "nomad-identity-expires",
        TRAINING,
        line('ttl  = "1h"', 'ttl  = "8760h"'),
        f"{STORE}: identity google has the ttl 8760h, which is no time up to 24h",
    ),
    Case("nomad-identity-expires", TRAINING, line('ttl  = "1h"', 'ttl  = "${NOMAD_META_ttl}"'), "which is no time"),
    Case(
        "nomad-scoring-apart", TRAINING, among("verify", _IDENTITY), f"{VERIFY}: it loads a model and has a block ident"
    ),
    Case(
        "nomad-scoring-apart", TRAINING, among("verify", _TEMPLATE), f"{VERIFY}: it loads a model and has a block templ"
    ),
    Case(
        "nomad-scoring-apart",
        TRAINING,
        line('network_mode    = "none"', ""),
        f"{VERIFY}: it loads a model and config.network_mode is not set",
    ),
    Case(
        "nomad-scoring-apart",
        TRAINING,
        line('args     = ["store", "--verify-in"', 'args     = ["verify", "--verify-in"'),
        f"{STORE}: it loads a model and has a block identity",
    ),
    Case(
        "nomad-poststop-identity", TRAINING, among("clear", _IDENTITY), f"{CLEAR}: it runs after the others (poststop)"
    ),
    Case("nomad-job-readable", TRAINING, line('job "', 'jobs "'), "holds 0 jobs"),
    Case("nomad-job-readable", TRAINING, put("json", to=True), "registered as JSON"),
    Case("nomad-job-readable", TRAINING, put("hcl2", "allowFs", to=True), "hcl2.allowFs puts files into it"),
    Case("nomad-job-readable", TRAINING, train('dynamic "env" {\n for_each = [1]\n content {}\n}'), "dynamic blocks"),
    Case("nomad-task-privileged", TRAINING, config("privileged = true"), f"{TRAIN}: config.privileged is True"),
    Case("nomad-task-privileged", TRAINING, config("privileged = var.count > 0"), TRAIN),
    Case(
        "nomad-task-driver",
        TRAINING,
        line('driver       = "exec"', 'driver = "raw_exec"'),
        f"{STORE}: driver is raw_exec",
    ),
    Case(
        "nomad-task-host-namespace", TRAINING, config('network_mode = "host"'), f"{TRAIN}: config.network_mode is host"
    ),
    Case("nomad-task-host-namespace", TRAINING, config('pid_mode = "host"'), "config.pid_mode is host"),
    Case("nomad-task-host-namespace", TRAINING, config('network_mode = "container:other"'), "container:other"),
    Case(
        "nomad-group-host-network",
        TRAINING,
        line("    restart {", '    network {\n      mode = "host"\n    }\n    restart {'),
        f"{GROUP}: network.mode is host",
    ),
    Case(
        "nomad-task-host-files", TRAINING, config('volumes = ["/var/run/docker.sock:/d"]'), "has /var/run/docker.sock"
    ),
    Case(
        "nomad-task-host-files",
        TRAINING,
        config('mount {\n type = "bind"\n source = "/etc"\n target = "/e"\n}'),
        "config.mount binds /etc",
    ),
    Case(
        "nomad-task-host-files",
        TRAINING,
        config('devices = [{ host_path = "/dev/mem" }]'),
        f"{TRAIN}: config.devices",
    ),
    # As the stack gives it, and as it is written.
    Case(
        "nomad-task-image",
        TRAINING,
        put("hcl2", "vars", "image_tensornode", to="europe-west1-docker.pkg.dev/stand-in-project/images/tensornode"),
        "is not pinned",
    ),
    Case(
        "nomad-task-image",
        SCALING,
        line(
            "var.image_prometheus\n",
            '"europe-west1-docker.pkg.dev/stand-in-project/docker-io/prom/prometheus:latest"\n',
        ),
        "group scaling, task prometheus: image europe-west1-docker.pkg.dev/stand-in-project/docker-io/prom",
    ),
    Case(
        "nomad-task-registry", SCALING, put("hcl2", "vars", "image_prometheus", to="prom/prometheus:v3.1.0"), "none of"
    ),
    Case("nomad-task-limits", TRAINING, line("memory = var.train_memory", ""), f"{TRAIN}: resources.memory is not set"),
    Case("nomad-task-limits", TRAINING, line("cpu    = var.train_cpu", ""), f"{TRAIN}: resources.cpu is not set"),
    Case("nomad-task-limits", TRAINING, line("memory = var.train_memory", "memory = 9\nmemory_max = 99"), "memory_max"),
    Case("nomad-task-user", TRAINING, line('user         = "65534:65534"', ""), f"{TRAIN}: user is not set"),
    Case("nomad-task-user", TRAINING, line('user         = "nobody"', 'user = "root"'), f"{STORE}: user is root"),
    Case("nomad-task-capabilities", TRAINING, line('cap_drop        = ["all"]', ""), "config.cap_drop is without all"),
    Case("nomad-task-capabilities", TRAINING, config('cap_add = ["sys_admin"]'), "config.cap_add has sys_admin"),
    Case("nomad-task-confined", TRAINING, line('["no-new-privileges"]', "[]"), "without no-new-privileges"),
    Case("nomad-task-confined", TRAINING, line('["no-new-', '["seccomp=unconfined", "no-new-'), "seccomp=unconfined"),
    Case("nomad-task-confined", TRAINING, line("readonly_rootfs = true", ""), "readonly_rootfs is not true"),
    Case(
        "nomad-credential", TRAINING, line("      env {\n", '      env {\n API_KEY = "x1"\n'), "train.env.API_KEY holds"
    ),
    Case(
        "nomad-credential",
        TRAINING,
        line("  meta {\n", '  meta {\n note = "ghp_' + 36 * "a" + '"\n'),
        "meta.note holds",
    ),
    Case("nomad-credential", SCALING, put("hcl2", "vars", "token", to="x1"), "hcl2: vars.token holds"),
    Case(
        "nomad-parameter-credential", TRAINING, line('["save_path", ', '["save_path", "gcp_credentials", '), "gcp_cred"
    ),
    Case("nomad-parameter-payload", TRAINING, line('payload       = "forbidden"', ""), "payload is not set"),
    Case(
        "nomad-parameter-in-program",
        TRAINING,
        line('args            = ["train"]', _SHELL),
        "runs train ${NOMAD_META_save_path} as text",
    ),
    Case("nomad-parameter-in-program", TRAINING, train(_SCRIPT), "template local/run.sh writes"),
    Case("nomad-training-replaced", TRAINING, line("attempts  = 0", "attempts  = 1"), "reschedule is not attempts = 0"),
    Case("nomad-training-replaced", TRAINING, line("unlimited = false", "unlimited = true"), f"{GROUP}: reschedule"),
    Case("nomad-training-replaced", TRAINING, line("replace    = false", "replace    = true"), "disconnect is not"),
    Case("nomad-training-replaced", TRAINING, line('lost_after = "8760h"', ""), "disconnect is not replace = false"),
    Case(
        "nomad-training-replaced", TRAINING, line('mode     = "fail"', 'mode     = "delay"'), "restart.mode is not fail"
    ),
    Case(
        "nomad-artifact-checksum",
        TRAINING,
        train('artifact {\n source = "https://example.com/a.tgz"\n}'),
        "https://example.com/a.tgz has no checksum",
    ),
    Case("nomad-identity-expires", TRAINING, line('        ttl  = "1h"\n', ""), "identity google has no ttl"),
    Case(
        "nomad-identity-expires",
        TRAINING,
        line("        file = true\n", "        env = true\n"),
        "is in the environment",
    ),
    Case(
        "nomad-acl-policy",
        "nomad-access-reader-policy",
        put("rulesHcl", to='agent {\n policy = "write"\n}'),
        "agent is",
    ),
    Case(
        "nomad-acl-policy",
        "nomad-access-dispatcher-policy",
        put("rulesHcl", to='namespace "default" {\n  capabilities = ["dispatch-job", "submit-job"]\n}'),
        "namespace default has submit-job",
    ),
    Case("nomad-acl-policy", "nomad-access-reader-policy", put("name", to="anonymous"), "whoever has no token"),
    Case("nomad-namespace-drivers", "nomad-access-default", put("capabilities", to=None), "so that it has all of them"),
    Case(
        "nomad-namespace-drivers",
        "nomad-access-default",
        put("capabilities", "enabledTaskDrivers", 0, to="raw_exec"),
        "enabledTaskDrivers has raw_exec",
    ),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_changed_line_breaks_the_rule(case: Case) -> None:
    check(case)


def test_no_rule_tells_a_credential() -> None:
    secret = "ghp_" + 36 * "a"
    bad = changed(
        stack("local"), JOB, "sales-close-prediction", line("      env {\n", f'      env {{\n TOKEN = "{secret}"\n')
    )
    assert violated(bad, "nomad-credential")
    assert secret not in str(judge(bad, PolicySettings(), ALL, TODAY))


def test_a_variable_that_is_not_known_decides_nothing() -> None:
    unknown = changed(
        stack("local"), JOB, "sales-close-prediction", put("hcl2", "vars", "image_tensornode", to=UNKNOWN)
    )
    found = [verdict for verdict in judge(unknown, PolicySettings(), ALL, TODAY) if verdict.rule == "nomad-task-image"]
    assert {verdict.state for verdict in found} == {"not decided"}
    assert {verdict.where for verdict in found} == {TRAIN, VERIFY, CLEAR}
