from pathlib import Path

import pytest

from cahp.access import Access, AccessError

KNOWN = ("minilm-bbc",)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder to open things from, beside which lies something private."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key.csv").write_text("text,label\n")
    (tmp_path / "open" / "class").mkdir(parents=True)
    (tmp_path / "open" / "texts.csv").write_text("text,label\n")
    return tmp_path / "open"


LOOPBACK = ["127.0.0.1", "localhost", "LOCALHOST", "localhost.", "[::1]", "[0:0::1]"]
FOREIGN = [
    *("", "evil.example", "evil.example:8501", "127.0.0.1.evil.example", "localhost.evil.example"),
    *("evil.example@127.0.0.1", "127.0.0.1@evil.example", "127.0.0.1:8501:8501", "127.0.0.1:x", "127.0.0.1/x"),
    *("127.0.0.1 ", "[::1", "::1", "192.168.1.5", "0.0.0.0"),
    "lοcalhost",  # the second letter is Greek
]
NAMED = ("192.168.1.5", "lab.example", "fe80::5")


@pytest.mark.parametrize(
    ("listened", "accepted", "refused"),
    [
        ((), [*LOOPBACK, *(f"{host}:8501" for host in LOOPBACK)], FOREIGN),
        (
            NAMED,
            ["192.168.1.5:80", "Lab.Example:8501", "[fe80:0::5]:1", "127.0.0.1"],
            ["192.168.1.6", "other.example", "x.lab.example", "[fe80::6]"],
        ),
        # Where every address is listened on, any address is answered but no foreign name.
        (("0.0.0.0", "lab"), ["192.168.1.5:8501", "[fe80::5]", "lab:8501", "localhost"], ["evil.example"]),
        (("::", "lab"), ["192.168.1.5:8501", "[fe80::5]", "lab:8501", "localhost"], ["evil.example"]),
    ],
    ids=["the loopback", "named hosts", "every address", "every address of version 6"],
)
def test_hosts_answer_to_their_names_alone(listened: tuple[str, ...], accepted: list[str], refused: list[str]) -> None:
    access = Access(hosts=listened)
    assert [host for host in accepted if not access.accepts_host(host)] == []
    assert [host for host in refused if access.accepts_host(host)] == []


def test_a_token_admits_itself_and_nothing_else() -> None:
    access = Access(token="right")
    assert access.accepts_token("right")
    assert not any(access.accepts_token(token) for token in ("", "righ", "rightt", "wrong", "ríght"))
    assert Access().accepts_token("")
    assert Access().accepts_token("any")
    # Nor does it show when the value is printed.
    assert "secret" not in repr(Access(token="secret"))


def test_what_one_process_says_another_reads(root: Path) -> None:
    access = Access(hosts=("0.0.0.0", "lab"), token="right", public=True, data_root=root)
    assert Access.from_environment(access.environment()) == access
    assert Access.from_environment({}) == Access()
    # The usual access replaces what the environment said before.
    assert Access.from_environment({**access.environment(), **Access().environment()}) == Access()


@pytest.mark.parametrize("name", ["minilm-bbc", "org/name", "/etc", "../x", "~/x", "hub:org/name"])
def test_the_person_at_the_machine_opens_anything(name: str) -> None:
    assert Access(token="right").source(name, known=KNOWN) == name


@pytest.mark.parametrize("name", ["/etc/passwd", "etc", ".", "..", "~", "~root", "org/name", "hub:org/name", "", "\0"])
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
def test_no_path_leads_out_of_the_data_root_and_none_tells_what_is_there(root: Path, public: bool) -> None:
    access, said = Access(public=public, data_root=root), set()
    outside = ["../private", "../private/key.csv", "class/../../private", "/etc/passwd", "~/x", "missing/../..", "\0"]
    hub = ["missing", "org/name"] if public else []
    for name in (*outside, *hub, "../missing", "/missing"):
        with pytest.raises(AccessError, match="its data folder") as refused:
            access.source(name, known=KNOWN)
        said.add(str(refused.value))
    assert len(said) == 1


def test_the_hub_stays_open_beside_a_data_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Access(data_root=root).source("org/name@main", known=KNOWN) == "org/name@main"
    assert Access(data_root=root).source("hub:org/name:config", known=KNOWN) == "hub:org/name:config"
    # What lies where the process runs is no id of the hub.
    monkeypatch.chdir(root.parent)
    with pytest.raises(AccessError):
        Access(data_root=root).source("private/key.csv", known=KNOWN)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        *(("out", "out"), ("out", "out/key.csv"), ("out", "."), ("out.csv", "out.csv"), ("circle", "circle")),
        # Inside a folder that is opened.
        *(("class/train.csv", "class"), ("class/more/train.csv", "class")),
    ],
)
def test_no_link_leads_out_of_the_data_root(root: Path, place: str, name: str) -> None:
    private = root.parent / "private"
    targets = {"out": private, "circle": root / "circle"}
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).symlink_to(targets.get(place, private / "key.csv"))
    with pytest.raises(AccessError):
        Access(public=True, data_root=root).source(name, known=KNOWN)


def test_a_link_that_stays_inside_is_followed_and_the_data_root_itself_may_be_one(root: Path) -> None:
    (root / "within.csv").symlink_to(root / "texts.csv")
    (root.parent / "link").symlink_to(root)
    access = Access(public=True, data_root=root.parent / "link")
    assert access.data_root == root.resolve()
    assert access.source("within.csv", known=KNOWN) == str(root.resolve() / "texts.csv")


def test_a_data_root_that_is_no_folder_is_refused(root: Path) -> None:
    for path in (root / "missing", root / "texts.csv"):
        with pytest.raises(AccessError, match="is not a folder"):
            Access(data_root=path)
