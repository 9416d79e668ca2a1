"""What SECURITY.md promises, each promise a test."""

import re
import stat

import pytest
import zmq

from helios_world.bridge import door, protocol
from helios_world.bridge.client import RemoteSession
from helios_world.bridge.door import Door
from helios_world.bridge.keys import ClientKeys, KeyPair, Lock, make_keys, read_allowed, read_client_keys, read_pair
from helios_world.bridge.server import WorldServer
from helios_world.bridge.stream import WorldStream
from helios_world.demos.cli import main
from helios_world.engine import WorldEngine
from helios_world.errors import ConnectionLost, ServerError, UserError
from helios_world.testing import FakeWorldModel
from tests.chaos import ChaosProxy


def pair():
    return KeyPair(*(key.decode() for key in zmq.curve_keypair()))


SERVER, ADA, BOB, EVE = (pair() for _ in range(4))


@pytest.fixture
def address(served):
    lock = Lock(SERVER, frozenset({ADA.public, BOB.public}))
    with served(WorldServer(WorldEngine(FakeWorldModel()), lock=lock)) as address:
        yield address


def keys(own, server=SERVER):
    return ClientKeys(own, server.public)


def test_allowed_keys_come_in_and_play(address):
    remote = RemoteSession(address, keys=keys(ADA))
    local, first = WorldEngine(FakeWorldModel()).open(seed=3)
    assert (remote.reset(seed=3).frames == first.frames).all()
    assert (remote.step().frames == local.step().frames).all()
    twin = remote.fork()
    assert (twin.step().frames == local.step().frames).all()
    twin.close()
    remote.close()


def test_a_stream_with_keys_plays(address):
    stream = WorldStream(address, keys=keys(BOB))
    stream.start()
    shown = None
    for _ in range(200):
        shown = stream.tick() or shown
        if shown is not None:
            break
        stream.wait(0.02)
    stream.close()
    assert shown is not None


@pytest.mark.parametrize("who", [None, keys(EVE), keys(ADA, server=EVE)], ids=["no key", "unknown key", "other server"])
def test_nobody_else_comes_in(address, who):
    with pytest.raises(ConnectionLost, match="no answer from"):
        RemoteSession(address, timeout=0.6, keys=who)


@pytest.mark.timeout(20)
def test_who_is_refused_before_the_first_word_is_told_in_time(address, monkeypatch):
    connect = RemoteSession._connect

    def slowly(session):
        connect(session)
        session._line.wait(1000)  # until the server has broken the line, which then takes no word

    monkeypatch.setattr(RemoteSession, "_connect", slowly)
    with pytest.raises(ConnectionLost, match="no answer from"):
        RemoteSession(address, timeout=0.6, keys=keys(EVE))


def test_a_ticket_opens_nothing_for_another_key(address):
    remote = RemoteSession(address, keys=keys(ADA))
    remote.reset(seed=3)
    with pytest.raises(ServerError, match="no longer has this world") as refused:
        RemoteSession(address, ticket=remote._ticket, keys=keys(BOB))
    assert refused.value.code == "unknown_session"
    again = RemoteSession(address, ticket=remote._ticket, keys=keys(ADA))
    assert again.step().index == 1
    again.close()
    remote.close()


@pytest.mark.parametrize("locked", [True, False])
def test_with_keys_nothing_can_be_read_on_the_way(served, locked):
    lock = Lock(SERVER, frozenset({ADA.public})) if locked else None
    with served(WorldServer(WorldEngine(FakeWorldModel()), lock=lock)) as address:
        relay = ChaosProxy(int(address.rsplit(":", 1)[1]))
        remote = RemoteSession(relay.address, keys=keys(ADA) if locked else None)
        frames = remote.reset("hall", seed=3).frames
        remote.close()
        relay.close()
    readable = b"hall" in relay.seen, frames.tobytes()[:4096] in relay.seen
    assert len(relay.seen) > frames.nbytes and readable == ((False, False) if locked else (True, True))


def test_beyond_this_machine_only_with_keys_or_when_told(tmp_path):
    with pytest.raises(UserError, match="beyond this machine, without keys: give --key and --allow"):
        Door("tcp://0.0.0.0:0")
    Door("tcp://0.0.0.0:0", lock=Lock(SERVER, frozenset({ADA.public}))).close()
    Door("tcp://0.0.0.0:0", insecure=True).close()


@pytest.mark.parametrize("options", [{"insecure": True}, {"lock": Lock(SERVER, frozenset())}])
def test_an_old_libzmq_is_not_let_out(monkeypatch, options):
    monkeypatch.setattr(door.zmq, "zmq_version_info", lambda: (4, 3, 1))
    with pytest.raises(UserError, match=r"4\.3\.5 or newer is needed"):
        Door("tcp://0.0.0.0:0", **options)
    Door("tcp://127.0.0.1:0").close()


def test_requests_are_limited_and_steps_are_not(served):
    with served(WorldServer(WorldEngine(FakeWorldModel()))) as address:
        hasty = RemoteSession(address)
        hasty.reset()
        with pytest.raises(ServerError, match="over 20 requests a second") as refused:
            for _ in range(200):
                hasty.snapshot()
        assert refused.value.code == "rate"
        assert [hasty.step().index for _ in range(100)] == list(range(1, 101))
        hasty.close()


def test_keys_are_for_their_owner_and_never_overwritten(tmp_path, capsys):
    assert main(["keygen", "ada", "--out", str(tmp_path / "keys")]) == 0
    secret, public = tmp_path / "keys" / "ada.key", tmp_path / "keys" / "ada.pub"
    assert capsys.readouterr().out.splitlines()[0].startswith(str(secret))
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert read_allowed([tmp_path / "keys"]) == {read_pair(secret).public} == {public.read_text().strip()}
    before = secret.read_text()
    assert main(["keygen", "ada", "--out", str(tmp_path / "keys")]) == 2
    assert "exists: choose another name" in capsys.readouterr().err and secret.read_text() == before
    assert read_pair(secret).secret not in repr(read_pair(secret))


def test_a_key_that_others_may_read_is_refused(tmp_path):
    secret, _ = make_keys(tmp_path, "ada")
    secret.chmod(0o640)
    with pytest.raises(UserError, match=f"chmod 600 {secret}"):
        read_pair(secret)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["serve", "--key", "{key}"], "needs both: --key, its own, and --allow"),
        (["serve", "--allow", "{pub}"], "needs both: --key, its own, and --allow"),
        (["serve", "--key", "{pub}", "--allow", "{pub}"], "holds no key pair"),
        (["serve", "--key", "{key}", "--allow", "{key}"], "holds no public key"),
        (["serve", "--key", "nowhere.key", "--allow", "{pub}"], "cannot read nowhere.key"),
        (["serve", "--host", "0.0.0.0"], "beyond this machine, without keys"),
        (["keygen", "../ada"], "letters, digits, - and _ only"),
        (["play", "--key", "{key}"], "give its address with --connect"),
    ],
)
def test_mistakes_with_keys_are_one_line(tmp_path, capsys, words, complaint):
    key, pub = make_keys(tmp_path, "ada")
    assert main([word.format(key=key, pub=pub) for word in words]) == 2
    err = capsys.readouterr().err
    assert complaint in err and err.count("\n") == 1


def test_a_client_needs_both_keys(tmp_path):
    key, pub = make_keys(tmp_path, "ada")
    assert read_client_keys(None, None) is None and read_client_keys(key, pub).server == pub.read_text().strip()
    with pytest.raises(UserError, match="needs both"):
        read_client_keys(key, None)


def test_codes_are_what_the_server_sends(pytestconfig):
    server = (pytestconfig.rootpath / "helios_world" / "bridge" / "server.py").read_text(encoding="utf-8")
    sent = set(re.findall(r'"(\w+)"', " ".join(re.findall(r"(?:Error\(|_fail\().*", server))))
    assert sent & set(protocol.CODES) == set(protocol.CODES)


def test_every_promise_names_tests_that_exist(pytestconfig):
    root = pytestconfig.rootpath
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", (root / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    for path, test in named:
        assert f"def {test}(" in (root / path).read_text(encoding="utf-8"), f"{path}::{test}"
