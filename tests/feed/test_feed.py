"""The feed over plain HTTPS: who may read, what a query answers, and how a mistake is told."""

import asyncio
import csv
import io
import logging
import ssl
import tempfile
from pathlib import Path

import pytest
from aiohttp import ClientConnectorCertificateError, ClientSession

from mlops.feed import FeedError, make_app, make_tls
from tests.feed.conftest import CARAVAN, CLIENT_ID, CLIENT_SECRET, RunningFeed


def test_answer_has_what_a_client_needs(feed: RunningFeed):
    answer = feed.login()
    assert answer.status == 200
    assert answer.json["token_type"] == "Bearer"  # noqa: S105
    assert answer.json["instance_url"] == feed.url
    organization, user = answer.json["id"].rsplit("/", 2)[1:]
    assert organization.startswith("00D")
    assert user.startswith("005")


def test_each_login_has_a_token_of_its_own(feed: RunningFeed):
    assert feed.login().json["access_token"] != feed.login().json["access_token"]


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"client_secret": "x"}, "invalid_client"),
        ({"client_secret": ""}, "invalid_client"),
        ({"client_secret": CLIENT_SECRET + "x"}, "invalid_client"),
        ({"client_secret": "größer"}, "invalid_client"),
        ({"client_id": "x"}, "invalid_client_id"),
        ({"client_id": ""}, "invalid_client_id"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "unsupported_grant_type"),
    ],
)
def test_wrong_credentials_get_no_token(feed: RunningFeed, form, error):
    right = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    answer = feed.ask("POST", "/services/oauth2/token", data=right | form)
    assert answer.status == 400
    assert answer.json["error"] == error
    assert set(answer.json) == {"error", "error_description"}


def test_credentials_in_the_url_are_not_taken(feed: RunningFeed):
    right = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    assert feed.ask("POST", "/services/oauth2/token", params=right).status == 400


@pytest.mark.parametrize("token", [None, "", "wrong", "00D000000000001!wrong", "é"])
def test_nothing_is_read_without_a_token(feed: RunningFeed, token):
    first = feed.query("SELECT Id FROM Customer__c").json["nextRecordsUrl"]
    for path in ("/services/data/v60.0/query?q=SELECT+Id+FROM+Area__c", first):
        answer = feed.ask("GET", path, token=token)
        assert answer.status == 401
        assert answer.json == [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]


def test_token_expires(serve):
    with serve(token_ttl=0) as feed:
        answer = feed.query("SELECT Id FROM Area__c", feed.login().json["access_token"])
        assert (answer.status, answer.json[0]["errorCode"]) == (401, "INVALID_SESSION_ID")


def test_no_secret_is_logged(serve, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    with serve() as feed:
        feed.login(client_secret="mistyped-secret")  # noqa: S106
        token = feed.login().json["access_token"]
        feed.query("SELECT Id FROM Area__c LIMIT 1", token)
    assert "/services/oauth2/token" in caplog.text  # the access log is on
    for secret in (CLIENT_SECRET, "mistyped-secret", token):
        assert secret not in caplog.text


def test_record_has_salesforces_shape(feed: RunningFeed):
    answer = feed.query("select id, area__r.mostype__c, Area__r.Id, Area__c, Purchase__c from customer__c limit 1").json
    area, customer = "a00000000000001AAA", "a01000000000001AAA"
    assert answer == {
        "totalSize": 1,
        "done": True,
        "records": [
            {
                "attributes": {
                    "type": "Customer__c",
                    "url": f"/services/data/v60.0/sobjects/Customer__c/{customer}",
                },
                "Id": customer,
                "Area__r": {
                    "attributes": {"type": "Area__c", "url": f"/services/data/v60.0/sobjects/Area__c/{area}"},
                    "MOSTYPE__c": 33,
                    "Id": area,
                },
                "Area__c": area,
                "Purchase__c": "No",
            }
        ],
    }


def test_pages_are_all_records_once_and_in_order(feed: RunningFeed):
    token = feed.login().json["access_token"]
    page = feed.query("SELECT Id FROM Customer__c ORDER BY Id DESC", token).json
    ids = [record["Id"] for record in page["records"]]
    sizes = [len(ids)]
    while not page["done"]:
        page = feed.ask("GET", page["nextRecordsUrl"], token=token).json
        assert page["totalSize"] == 5822
        ids += [record["Id"] for record in page["records"]]
        sizes.append(len(page["records"]))
    assert sizes == [700] * 8 + [222]
    assert ids == sorted(set(ids), reverse=True)


def test_areas_are_the_distinct_combinations(feed: RunningFeed):
    with CARAVAN.open(newline="") as file:
        distinct = {tuple(row[:43]) for row in list(csv.reader(file))[1:]}
    assert feed.query("SELECT Id FROM Area__c").json["totalSize"] == len(distinct) == 1734


def test_order_by_a_field_of_the_area_then_another(feed: RunningFeed):
    soql = "SELECT Area__r.MOSTYPE__c, Id FROM Customer__c ORDER BY Area__r.MOSTYPE__c DESC NULLS LAST, Id LIMIT 600"
    keys = [(-r["Area__r"]["MOSTYPE__c"], r["Id"]) for r in feed.query(soql).json["records"]]
    assert keys == sorted(keys)
    assert len({key for key, _ in keys}) > 1


def test_limit_counts_over_pages(feed: RunningFeed):
    answer = feed.query("SELECT Id FROM Customer__c LIMIT 701").json
    assert (answer["totalSize"], answer["done"], len(answer["records"])) == (701, False, 700)


@pytest.mark.parametrize(
    ("soql", "code", "words"),
    [
        ("", "MALFORMED_QUERY", "A query string has to be specified"),
        ("SELECT", "MALFORMED_QUERY", "unexpected token: '<EOF>'"),
        ("SELECT * FROM Area__c", "MALFORMED_QUERY", "unexpected token: '*'"),
        ("SELECT FROM Area__c", "MALFORMED_QUERY", "unexpected token: 'FROM'"),
        ("SELECT Id, FROM Area__c", "MALFORMED_QUERY", "unexpected token: 'FROM'"),
        ("SELECT Id Area__c", "MALFORMED_QUERY", "unexpected token: 'Area__c'"),
        ("SELECT Id FROM Area__c WHERE Id = 'x'", "MALFORMED_QUERY", "unexpected token: 'WHERE'"),
        ("SELECT Id FROM Area__c LIMIT -1", "MALFORMED_QUERY", "unexpected token: '-'"),
        ("SELECT Id FROM Area__c LIMIT 1 OFFSET 2", "MALFORMED_QUERY", "unexpected token: 'OFFSET'"),
        ("SELECT Id FROM Area__c LIMIT 1; DROP", "MALFORMED_QUERY", "unexpected token: ';'"),
        ("SELECT Id FROM Area__c ORDER Id", "MALFORMED_QUERY", "unexpected token: 'Id'"),
        ("SELECT COUNT(Id) FROM Area__c", "MALFORMED_QUERY", "unexpected token: '('"),
        ("SELECT Id, id FROM Area__c", "MALFORMED_QUERY", "duplicate field selected: id"),
        ("SELECT Id, Nope__c FROM Area__c", "INVALID_FIELD", "No such column 'Nope__c' on entity 'Area__c'."),
        ("SELECT Id,\n  Nope FROM Area__c", "INVALID_FIELD", "ERROR at Row:2:Column:3\n"),
        ("SELECT Purchase__c FROM Area__c", "INVALID_FIELD", "No such column 'Purchase__c' on entity 'Area__c'."),
        ("SELECT Id FROM Area__c ORDER BY Nope", "INVALID_FIELD", "ERROR at Row:1:Column:33\n"),
        ("SELECT Area__r.Nope FROM Customer__c", "INVALID_FIELD", "No such column 'Nope' on entity 'Area__c'."),
        ("SELECT Shop__r.Id FROM Customer__c", "INVALID_FIELD", "Didn't understand relationship 'Shop__r'"),
        ("SELECT Id FROM Account", "INVALID_TYPE", "sObject type 'Account' is not supported."),
    ],
)
def test_mistake_is_told_as_salesforce_tells_it(feed: RunningFeed, soql, code, words):
    answer = feed.query(soql)
    assert answer.status == 400
    assert answer.json[0]["errorCode"] == code
    assert words in answer.json[0]["message"]


@pytest.mark.parametrize("locator", ["01gnope-700", "01gnope", "-700", "{known}-x", "{known}--1"])
def test_unknown_locator_is_refused(feed: RunningFeed, locator):
    known = feed.query("SELECT Id FROM Customer__c").json["nextRecordsUrl"].rpartition("/")[2].partition("-")[0]
    token = feed.login().json["access_token"]
    answer = feed.ask("GET", f"/services/data/v60.0/query/{locator.format(known=known)}", token=token)
    assert (answer.status, answer.json[0]["errorCode"]) == (400, "INVALID_QUERY_LOCATOR")


def test_caravan_csv_is_the_file_itself(feed: RunningFeed):
    assert feed.ask("GET", "/data/caravan.csv").body == CARAVAN.read_bytes()


def test_caravan_json_has_the_same_rows(feed: RunningFeed):
    rows = feed.ask("GET", "/data/caravan.json").json
    assert rows[0]["MOSTYPE"] == 33
    with CARAVAN.open(newline="") as file:
        assert [{key: str(value) for key, value in row.items()} for row in rows] == list(csv.DictReader(file))


def test_the_two_raw_files_join_to_the_data_set(feed: RunningFeed):
    def rows(name: str) -> list[list[str]]:
        return list(csv.reader(io.StringIO(feed.ask("GET", f"/data/{name}").body.decode())))

    areas = {row[0]: row[1:] for row in rows("areas.csv")}
    joined = [[*areas["Id" if key == "Area" else key], *rest] for _, key, *rest in rows("customers.csv")]
    with CARAVAN.open(newline="") as file:
        assert joined == list(csv.reader(file))


@pytest.mark.parametrize("path", ["/data/nope.csv", "/data/", "/data/../Caravan.csv", "/data/..%2fCaravan.csv"])
def test_other_names_are_not_found(feed: RunningFeed, path):
    assert feed.ask("GET", path).status == 404


def test_a_client_that_does_not_trust_the_authority_is_kept_out(feed: RunningFeed):
    async def ask() -> None:
        context = ssl.create_default_context(cadata=make_tls(["localhost"])[1].decode())
        async with ClientSession() as session, session.get(f"{feed.url}/data/caravan.csv", ssl=context):
            pass

    with pytest.raises(ClientConnectorCertificateError):
        asyncio.run(ask())


def test_private_key_is_never_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    loaded: list[Path] = []
    original = ssl.SSLContext.load_cert_chain

    def load(self: ssl.SSLContext, certfile: str, *rest: object) -> None:
        loaded.append(Path(certfile).resolve())
        original(self, certfile, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _, ca = make_tls(["localhost"])
    assert b"PRIVATE" not in ca
    assert [path.name for path in loaded] == ["memfd:feed-key (deleted)"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file or directory"),
        (b"", "not the CoIL data set"),
        (b"a,b\n1,2\n", "2 columns"),
        (b"\xff\xfe", "not the CoIL data set"),
    ],
)
def test_bad_file_is_told_in_one_line_with_what_to_do(tmp_path: Path, content, words):
    path = tmp_path / "Caravan.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FeedError, match=words) as caught:
        make_app(path, CLIENT_ID, CLIENT_SECRET)
    assert "make setup" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_row_that_lost_its_end_is_noticed(tmp_path: Path):
    path = tmp_path / "Caravan.csv"
    path.write_bytes(CARAVAN.read_bytes()[:-40])
    with pytest.raises(FeedError, match="unequal length"):
        make_app(path, CLIENT_ID, CLIENT_SECRET)
