from __future__ import annotations

import pytest

pytest.importorskip("starlette", reason="starlette is not installed")

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from scheduler.serve import access

TOKEN = "correct-horse-battery"


def client(token: str | None, base: str = "http://fleet.example:8787") -> TestClient:
    inner = Starlette(routes=[Route("/{rest:path}", lambda request: PlainTextResponse(f"in {request.url.path}"))])
    return TestClient(access.Guard(inner, token), base_url=base, follow_redirects=False)


def test_nobody_gets_in_without_the_token() -> None:
    with client(TOKEN) as visitor:
        for answer in (
            visitor.get("/"),
            visitor.get("/?token=wrong"),
            visitor.get("/?token="),
            visitor.get("/", headers={"authorization": "Bearer wrong"}),
            visitor.get("/", headers={"authorization": TOKEN[:-1]}),
            visitor.get("/", headers={"cookie": f"{access.COOKIE}={TOKEN}"}),  # it holds a digest, not the token
        ):
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert TOKEN not in answer.text


def test_the_token_comes_once_in_the_address_and_stays_as_a_cookie() -> None:
    with client(TOKEN) as visitor:
        answer = visitor.get(f"/report?study=a%26b&token={TOKEN}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/report?study=a%26b")
        kept = answer.headers["set-cookie"]
        assert TOKEN not in kept
        assert "HttpOnly" in kept
        assert "samesite=lax" in kept.lower()
        assert visitor.get("/report").text == "in /report"


def test_a_redirect_never_leads_to_another_host() -> None:
    with client(TOKEN) as visitor:
        assert (
            visitor.get(f"{visitor.base_url}//elsewhere.example/?token={TOKEN}").headers["location"]
            == "/elsewhere.example/"
        )


def test_programs_send_it_as_a_bearer() -> None:
    with client(TOKEN) as visitor:
        assert visitor.get("/x", headers={"authorization": f"Bearer {TOKEN}"}).text == "in /x"


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1:8787", "127.9.9.9", "[::1]:8787"])
def test_without_a_token_loopback_answers_to_its_own_names(name: str) -> None:
    with client(None) as visitor:
        assert visitor.get("/x", headers={"host": name}).status_code == 200


@pytest.mark.parametrize(
    "name", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8787", "", "10.0.0.1"]
)
def test_a_name_that_was_made_to_point_here_is_refused(name: str) -> None:
    with client(None) as visitor:
        assert visitor.get("/x", headers={"host": name}).status_code == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(method: str) -> None:
    with client(None, "http://localhost") as visitor:
        assert visitor.request(method, "/x").status_code == 405


def test_every_answer_tells_browsers_what_they_may_do() -> None:
    with client(TOKEN) as visitor:
        for answer in (visitor.get("/"), visitor.get("/x", headers={"authorization": f"Bearer {TOKEN}"})):
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self';" in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cache-control"] == "no-store"


def test_loopback_is_known_by_its_addresses() -> None:
    assert all(access.is_loopback(host) for host in ("localhost", "127.0.0.1", "127.1.2.3", "::1"))
    assert not any(access.is_loopback(host) for host in ("::", "10.0.0.1", "example.org", ""))
