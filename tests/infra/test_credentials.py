"""What looks like a credential or is called one is masked, in any form that people write it in; other text stays."""

import time
from pathlib import Path

import pytest

from infra.credentials import MASK, in_address, masked, masked_value
from infra.settings import SettingsError, load

PLANTED = [
    'password = "hunter2"',
    "password: correct horse hunter2",
    'DB_PASSWORD = "hunter2 with blanks"',
    "db-password: 'hunter2'",
    '  apiKey: "hunter2",',
    "PGPASSWORD=hunter2 psql -h host",
    "export MYSQL_PWD=hunter2",
    "docker run -e TOKEN=hunter2 image",
    "program --password hunter2 --verbose",
    "program --api-key=hunter2",
    'args = ["--token", "hunter2"]',
    'command: ["sh", "--secret", "hunter2"]',
    '{"name": "X_TOKEN", "value": "hunter2"}',
    "- name: DB_PASSWORD\n  value: hunter2",
    '{"clientSecret":"hunter2","port":80}',
    "{access_key: hunter2, x: 1}",
    "Authorization: Bearer hunter2",
    "curl -H 'X-Api-Key: hunter2' https://host",
    "curl -u me:hunter2 https://host",
    "https://me:hunter2@host/path",
    "git clone https://hunter2@host/path",
    "wget 'https://host/x?a=b&sig=hunter2'",
    "postgresql://me:hunter2@host:5432/db",
    "password = <<EOF\n  hunter2\n  hunter2\nEOF\nother = 1",
    "token: |\n  hunter2\n\n  hunter2\nother: 1",
    "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----\nother: 1",
    '"-----BEGIN PRIVATE KEY-----\\nhunter2',
    "it says ghp_hunter2" + "a" * 30,
    "eyJhbGciOiJIUzI1NiJ9.eyJodW50ZXIyIjoxfQ.hunter2hunter2",
]


@pytest.mark.parametrize("text", PLANTED)
def test_a_planted_secret_is_masked_and_lines_stay_lines(text: str) -> None:
    shown = masked(text)
    assert "hunter2" not in shown
    assert MASK in shown
    assert shown.count("\n") == text.count("\n")
    assert masked(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        'image = "registry.example/tokenizer:1.0"',
        "automountServiceAccountToken: false",
        "secretName: database",
        "max_tokens: 500",
        'token = "${var.token}"',
        "token: '{{inputs.parameters.token}}'",
        "password = $PASSWORD",
        "the token is not valid any more",
        "https://host/@me/x?page=2&q=a@b",
        "ssh://git@host/repository",
        "https://${TOKEN}@host/",
        "secret: [secret]",
        "secret: projects/example/secrets/token",
        "client_secret: is a secret in clear, so whoever may read the file has it",
        "keys = 5",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert masked(text) == text


def test_values_of_any_depth_are_masked_by_their_names() -> None:
    value = {
        "command": ["run", "--token", "hunter2", "--port", "80"],
        "env": [{"name": "A_PASSWORD", "value": "hunter2"}, {"name": "B", "value": "shown"}],
        "auth": {"password": "hunter2", "tokens": ["hunter2"]},
        "text": "x\npassword: hunter2\n",
        "count": 5,
        "on": True,
    }
    shown = masked_value(value)
    assert "hunter2" not in str(shown)
    assert shown["command"] == ["run", "--token", MASK, "--port", "80"]
    assert shown["env"][1] == {"name": "B", "value": "shown"}
    assert (shown["count"], shown["on"]) == (5, True)


@pytest.mark.parametrize(
    "unit", ["a", "://", "-", "-----BEGIN PRIVATE KEY-----", "?a=", '"a', "name: ", "password: |\n"]
)
def test_masking_takes_time_as_long_as_the_text(unit: str) -> None:
    """Ten times the text may take thirty times the time, not a hundred: by the least of some tries, as others work."""

    def seconds(characters: int) -> float:
        text = unit * (characters // len(unit))

        def once() -> float:
            started = time.thread_time()
            masked(text)
            return time.thread_time() - started

        return min(once() for _ in range(5))

    assert seconds(200_000) < 30 * max(seconds(20_000), 0.005)


def test_a_credential_in_a_stacks_address_is_refused_and_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.x.yaml").write_text(
        "config:\n"
        "  hybrid-mlops:buckets: {models: some-models, data: some-data}\n"
        "  hybrid-mlops:images: {repository: registry.example/images}\n"
        "  hybrid-mlops:nomad: {address: 'http://host?token=hunter2'}\n"
        "  hybrid-mlops:jobs:\n"
        "    sales-close-prediction:\n"
        "      parameters: {data_url: 'https://host/x.csv?access_token=hunter2'}\n"
        "      variables: {mirrors: ['https://me:hunter2@host/']}\n"
    )
    with pytest.raises(SettingsError) as raised:
        load("x", tmp_path)
    lines = str(raised.value).splitlines()
    assert "hunter2" not in str(raised.value)
    for key in ("nomad.address", "parameters.data_url", "variables.mirrors.0"):
        assert [line for line in lines if f"{key}: holds a credential" in line], key


def test_where_the_credential_is_in_an_address_is_told() -> None:
    assert in_address("https://host/x?page=1&access_token=x") == "the parameter access_token"
    assert in_address("https://host/x#id_token=x") == "the fragment id_token"
    assert in_address("https://x@host/") == "the part before @"
    assert in_address("https://host/x?page=1") is None
