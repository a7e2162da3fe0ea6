from __future__ import annotations

import os
from pathlib import Path

import pytest

from cahp.access import Access, AccessError, current, is_every_address

KNOWN = ("minilm-bbc",)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder to open things from, beside which lies something private."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key.csv").write_text("text,label\n")
    (tmp_path / "open" / "class").mkdir(parents=True)
    (tmp_path / "open" / "texts.csv").write_text("text,label\n")
    return tmp_path / "open"


# Who comes in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "localhost.", "[::1]", "[0:0::1]"])
@pytest.mark.parametrize("port", ["", ":8501"])
def test_the_loopback_is_answered_under_its_names(host: str, port: str) -> None:
    assert Access().accepts_host(host + port)


FOREIGN = [
    "",
    "evil.example",
    "evil.example:8501",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example@127.0.0.1",
    "127.0.0.1@evil.example",
    "127.0.0.1:8501:8501",
    "127.0.0.1:x",
    "127.0.0.1/x",
    "127.0.0.1 ",
    "[::1",
    "::1",
    "192.168.1.5",
    "0.0.0.0",
    "lοcalhost",  # the second letter is Greek
]


@pytest.mark.parametrize("host", FOREIGN)
def test_no_other_host_is_answered(host: str) -> None:
    assert not Access().accepts_host(host)


def test_a_host_that_was_named_is_answered_and_no_other() -> None:
    access = Access(hosts=("192.168.1.5", "lab.example", "fe80::5"))
    ours = ("192.168.1.5:80", "Lab.Example:8501", "[fe80:0::5]:1", "127.0.0.1")
    assert all(map(access.accepts_host, ours))
    assert not any(access.accepts_host(host) for host in ("192.168.1.6", "other.example", "x.lab.example", "[fe80::6]"))


@pytest.mark.parametrize("every", ["0.0.0.0", "::"])
def test_where_every_address_is_listened_on_any_address_is_answered_but_no_foreign_name(every: str) -> None:
    access = Access(hosts=(every, "lab"))
    assert all(access.accepts_host(host) for host in ("192.168.1.5:8501", "[fe80::5]", "lab:8501", "localhost"))
    assert not access.accepts_host("evil.example")
    assert is_every_address(every)
    assert not is_every_address("127.0.0.1")


def test_a_token_admits_itself_and_nothing_else() -> None:
    access = Access(token="right")
    assert access.accepts_token("right")
    assert not any(access.accepts_token(token) for token in ("", "righ", "rightt", "wrong", "ríght"))
    assert Access().accepts_token("")
    assert Access().accepts_token("any")


def test_a_token_does_not_show_when_the_value_is_printed() -> None:
    assert "secret" not in repr(Access(token="secret"))


# How it is said to the server --------------------------------------------------------------------------------------


def test_what_one_process_says_another_reads(root: Path) -> None:
    access = Access(hosts=("0.0.0.0", "lab"), token="right", public=True, data_root=root)
    assert Access.from_environment(access.environment()) == access
    assert Access.from_environment({}) == Access.from_environment(Access().environment()) == Access()


def test_default_access_resets_the_environment(root: Path) -> None:
    before = Access(hosts=("lab",), token="old", public=True, data_root=root).environment()
    assert Access.from_environment({**before, **Access().environment()}) == Access()


def test_it_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    current.cache_clear()
    try:
        for name, value in Access(public=True).environment().items():
            monkeypatch.setenv(name, value)
        assert current().public
        monkeypatch.delenv(name)
        assert current().public
    finally:
        current.cache_clear()


# How far they come -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["minilm-bbc", "org/name", "/etc", "../x", "~/x", "hub:org/name"])
def test_the_person_at_the_machine_opens_anything(name: str) -> None:
    assert Access(token="right").source(name, known=KNOWN) == name


CLOSED = [
    "/etc",
    "/etc/passwd",
    "etc",
    ".",
    "..",
    "../private",
    "~",
    "~root",
    "org/name",
    "hub:org/name",
    "",
    " ",
    "\0",
]


@pytest.mark.parametrize("name", CLOSED)
def test_in_public_only_what_is_known_opens(name: str) -> None:
    access = Access(public=True)
    assert not access.opens_folders
    assert access.source("minilm-bbc", known=KNOWN) == "minilm-bbc"
    with pytest.raises(AccessError, match="built-in models and data and uploaded files"):
        access.source(name, known=KNOWN)


@pytest.mark.parametrize("public", [True, False])
def test_below_the_data_root_things_open_under_their_real_path(root: Path, public: bool) -> None:
    access = Access(public=public, data_root=root)
    assert access.opens_folders
    for name in ("texts.csv", "./texts.csv", "class/../texts.csv", str(root / "texts.csv")):
        assert access.source(name, known=KNOWN) == str(root.resolve() / "texts.csv")
    assert access.source("class", known=KNOWN) == str(root.resolve() / "class")


@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize(
    "name", ["../private/key.csv", "class/../../private", "/etc/passwd", "~/x", "missing/../..", "\0"]
)
def test_no_path_leads_out_of_the_data_root(root: Path, name: str, public: bool) -> None:
    with pytest.raises(AccessError, match="its data folder"):
        Access(public=public, data_root=root).source(name, known=KNOWN)


def test_what_is_missing_and_what_is_elsewhere_are_refused_alike(root: Path) -> None:
    access, said = Access(public=True, data_root=root), set()
    for name in ("missing", "../private", "../missing", "/etc", "/missing", "org/name"):
        with pytest.raises(AccessError) as refused:
            access.source(name, known=KNOWN)
        said.add(str(refused.value))
    assert len(said) == 1


def test_the_hub_stays_open_beside_a_data_root_unless_it_is_public(root: Path) -> None:
    assert Access(data_root=root).source("org/name@main", known=KNOWN) == "org/name@main"
    assert Access(data_root=root).source("hub:org/name:config", known=KNOWN) == "hub:org/name:config"


def test_what_lies_where_the_process_runs_is_no_hub_id(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    with pytest.raises(AccessError):
        Access(data_root=root).source("private/key.csv", known=KNOWN)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symbolic links here")
class TestLinks:
    @pytest.fixture(autouse=True)
    def _linked(self, root: Path) -> None:
        (root / "out").symlink_to(root.parent / "private")
        (root / "out.csv").symlink_to(root.parent / "private" / "key.csv")
        (root / "within.csv").symlink_to(root / "texts.csv")
        (root / "circle").symlink_to(root / "circle")

    @pytest.mark.parametrize("name", ["out", "out.csv", "out/key.csv", "circle", "."])
    def test_no_link_leads_out_of_the_data_root(self, root: Path, name: str) -> None:
        with pytest.raises(AccessError):
            Access(public=True, data_root=root).source(name, known=KNOWN)

    @pytest.mark.parametrize("deep", ["class/train.csv", "class/more/train.csv"])
    def test_nor_does_one_inside_a_folder_that_is_opened(self, root: Path, deep: str) -> None:
        (root / deep).parent.mkdir(exist_ok=True)
        (root / deep).symlink_to(root.parent / "private" / "key.csv")
        with pytest.raises(AccessError):
            Access(public=True, data_root=root).source("class", known=KNOWN)

    def test_a_link_that_stays_inside_is_followed(self, root: Path) -> None:
        opened = Access(public=True, data_root=root).source("within.csv", known=KNOWN)
        assert opened == str(root.resolve() / "texts.csv")

    def test_the_data_root_itself_may_be_a_link(self, root: Path) -> None:
        (root.parent / "link").symlink_to(root)
        access = Access(public=True, data_root=root.parent / "link")
        assert access.data_root == root.resolve()
        assert access.source("texts.csv", known=KNOWN) == str(root.resolve() / "texts.csv")


def test_a_data_root_that_is_no_folder_is_refused(root: Path) -> None:
    for path in (root / "missing", root / "texts.csv"):
        with pytest.raises(AccessError, match="is not a folder"):
            Access(data_root=path)
