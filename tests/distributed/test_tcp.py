"""Two hosts: who has no secret gets nowhere, nothing is changed unseen, a cut is noticed."""

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from banyan.distributed.channel import Message
from banyan.distributed.greeting import Identity
from banyan.distributed.listener import Listener
from banyan.distributed.opening import Conditions
from banyan.distributed.secret import SharedSecret, make_secret
from banyan.distributed.tcp import Address, connect_tcp, listen_tcp
from banyan.foundation.errors import (
    BanyanError,
    ChannelClosed,
    ChannelError,
    DamagedMessage,
    EnvironmentProblem,
    MessageLate,
    PeerLost,
    PeerRefused,
    PeerSilent,
)
from tests.distributed.cable import Cable
from tests.distributed.peer_process import TIMING
from tests.distributed.peers import DRIVER, NEVER_SILENT, WORKER, ended

HERE = Address("127.0.0.1", 0)


@contextlib.contextmanager
def listening(
    secret: SharedSecret, conditions: Conditions = DRIVER, address: Address = HERE
) -> Iterator[tuple[Listener, Address]]:
    with contextlib.closing(listen_tcp(address, secret, conditions)) as listener:
        yield listener, Address(address.host, listener.port)


def refusal_of(listener: Listener) -> str:
    """The sentence about the last connection that was refused, when there is one."""
    end = time.monotonic() + 10
    while not listener.refusals and time.monotonic() < end:
        time.sleep(0.005)
    return listener.refusals[-1]


def test_another_secret_is_refused_by_both_and_the_next_one_still_gets_in() -> None:
    secret = make_secret()
    with listening(secret) as (listener, address):
        with pytest.raises(PeerRefused, match="refused the shared secret of this one; give both"):
            connect_tcp(address, make_secret(), WORKER, patience_seconds=30)
        assert "was refused: it has another shared secret" in refusal_of(listener)
        with pytest.raises(MessageLate, match="The last one was refused: A worker at 127"):
            listener.accept(timeout=0)
        with contextlib.closing(connect_tcp(address, secret, WORKER)) as channel:
            assert channel.peer == f"driver (tcp {address})"
            listener.accept(10).close()


def test_who_listens_without_the_secret_cannot_pose_as_a_worker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as impostor:
        address = Address("127.0.0.1", impostor.getsockname()[1])

        def pose() -> None:
            connection, _ = impostor.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"BNYT\x02\x00\x30\x00" + bytes(range(48)))
                connection.recv(100)

        thread = threading.Thread(target=pose)
        thread.start()
        with pytest.raises(PeerRefused, match="does not have the shared secret"):
            connect_tcp(address, make_secret(), WORKER)
        thread.join()


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "is no Banyan worker: it began with b'GET '"),
        (b"BNYT\x09\x00\x30\x00", "speaks protocol 9 and this one 2"),
        (b"BNYT\x02\x00\xff\xff", "a handshake of 65535 bytes; it has 48"),
        (b"BNYT\x02\x00\x30\x00" + bytes(48), "another shared secret"),
        (b"BNYT\x02", "hung up while connecting, after 5 of 8 bytes"),
    ],
)
def test_what_is_no_worker_is_refused_in_one_sentence(words: bytes, refusal: str) -> None:
    with listening(make_secret()) as (listener, address):
        with socket.create_connection((address.host, address.port)) as connection:
            connection.sendall(words)
        assert refusal in refusal_of(listener)


def test_who_connects_and_says_nothing_holds_up_nobody() -> None:
    secret = make_secret()
    quick = replace(DRIVER, timing=replace(TIMING, opening_seconds=0.5))
    with listening(secret, quick) as (listener, address), contextlib.ExitStack() as silent:
        for _ in range(5):
            silent.enter_context(socket.create_connection((address.host, address.port)))
        with contextlib.closing(connect_tcp(address, secret, WORKER)):
            listener.accept(10).close()
        assert "sent 0 of 8 bytes while connecting" in refusal_of(listener)


def test_other_versions_refuse_each_other_on_both_sides() -> None:
    secret = make_secret()
    old = replace(WORKER, identity=Identity("worker", version="0.0.9"))
    with listening(secret) as (listener, address):
        with pytest.raises(PeerRefused, match=r"driver runs Banyan .* and worker runs 0\.0\.9"):
            connect_tcp(address, secret, old)
        assert "worker runs Banyan 0.0.9 and driver runs" in refusal_of(listener)


def test_nobody_there_is_said_and_patience_waits_for_who_comes_later() -> None:
    secret = make_secret()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(EnvironmentProblem, match="choose another address or port"):
            listen_tcp(address, secret, DRIVER)
    with pytest.raises(PeerLost, match=f"No worker answers at {address}"):
        connect_tcp(address, secret, WORKER)
    late: list[Listener] = []
    timer = threading.Timer(0.3, lambda: late.append(listen_tcp(address, secret, DRIVER)))
    timer.start()
    connect_tcp(address, secret, WORKER, patience_seconds=20).close()
    timer.join()
    late[0].close()


def test_a_closed_listener_says_so_and_closes_whom_nobody_took() -> None:
    secret = make_secret()
    with listening(secret) as (listener, address):
        with contextlib.closing(connect_tcp(address, secret, WORKER)) as channel:
            end = time.monotonic() + 10
            while listener.num_waiting == 0 and time.monotonic() < end:
                time.sleep(0.005)
            listener.close()
            with pytest.raises(ChannelClosed):
                channel.receive()
        with pytest.raises(ChannelClosed, match="listener was closed"):
            listener.accept(10)


def test_a_worker_process_answers_over_tcp_and_its_death_is_seen_at_once() -> None:
    secret = make_secret()
    with listening(secret, NEVER_SILENT) as (listener, address):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.distributed.peer_process", str(address), "echo"],
            stdin=subprocess.PIPE,
        )
        with ended(process):
            assert process.stdin is not None
            process.stdin.write(secret.text.encode() + b"\n")
            process.stdin.flush()
            with contextlib.closing(listener.accept(60)) as channel:
                values = np.arange(300_000)
                channel.send(Message("run", {}, {"x": values}))
                assert np.array_equal(channel.receive().arrays["x"], values)
                process.send_signal(signal.SIGKILL)
                with pytest.raises(PeerLost):
                    channel.receive(timeout=60)


def test_a_cut_cable_is_silence_and_a_new_connection_goes_on() -> None:
    secret = make_secret()
    with listening(secret) as (listener, address), Cable(address) as cable:
        channel = connect_tcp(cable.address, secret, WORKER)
        other = listener.accept(10)
        channel.send(Message("before"))
        assert other.receive().kind == "before"
        cable.cut()
        for end in (channel, other):
            with contextlib.closing(end), pytest.raises(PeerSilent, match="the network cut"):
                end.receive()
        cable.mend()
        with (
            contextlib.closing(
                connect_tcp(cable.address, secret, WORKER, patience_seconds=10)
            ) as c,
            contextlib.closing(listener.accept(10)) as again,
        ):
            again.send(Message("after"))
            assert c.receive().kind == "after"


@pytest.mark.parametrize("place", [0, 1, 2, 500, 70_000])
def test_a_byte_changed_on_the_way_never_becomes_a_message(place: int) -> None:
    secret = make_secret()
    with listening(secret) as (listener, address), Cable(address) as cable:
        channel = connect_tcp(cable.address, secret, WORKER)
        with contextlib.closing(channel), contextlib.closing(listener.accept(10)) as other:
            cable.flip(place)
            channel.send(Message("m", {}, {"x": np.zeros(200_000, np.uint8)}))
            with pytest.raises((DamagedMessage, PeerSilent)):
                other.receive()


def test_a_connection_cut_short_at_any_byte_is_an_error_on_both_sides() -> None:
    """The handshake, the hellos and a message, cut after so many bytes of one direction."""
    secret = make_secret()
    quick = replace(DRIVER, timing=replace(TIMING, opening_seconds=0.5))
    worker = replace(WORKER, timing=replace(TIMING, opening_seconds=0.5))
    with listening(secret, quick) as (listener, address):
        for size in (0, 7, 8, 40, 56, 57, 100, 190, 300):
            with Cable(address) as cable:
                cable.end_after(size)
                with pytest.raises(BanyanError):
                    _talk(cable.address, secret, worker, listener)


def _talk(
    address: Address, secret: SharedSecret, conditions: Conditions, listener: Listener
) -> None:
    """Connect, send, and hear an answer."""
    channel = connect_tcp(address, secret, conditions)
    with contextlib.closing(channel), contextlib.closing(listener.accept(1)) as other:
        channel.send(Message("m", {}, {"x": np.ones(100_000)}))
        with pytest.raises(ChannelError):
            other.receive()
        channel.receive()


def test_nothing_readable_goes_over_the_cable() -> None:
    secret = make_secret()
    with listening(secret) as (listener, address), Cable(address) as cable:
        channel = connect_tcp(cable.address, secret, WORKER)
        with contextlib.closing(channel), contextlib.closing(listener.accept(10)) as other:
            channel.send(Message("a word that is secret", {}, {"x": np.zeros(1000, np.uint8)}))
            other.receive()
            seen = cable.seen()
    assert b"secret" not in seen
    assert b"worker" not in seen
    assert bytes(32) not in seen
    assert len(seen) > 1000


def _network_namespaces_work() -> bool:
    if shutil.which("ip") is None:
        return False
    name = "banyan-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return made.returncode == 0


@pytest.mark.wide
@pytest.mark.skipif(not _network_namespaces_work(), reason="needs root and iproute2")
def test_two_network_namespaces_whose_link_goes_down() -> None:
    """Hosts with an interface each; the link is taken down as an operator or a switch would."""
    subprocess.run([sys.executable, "-m", "tests.distributed.two_hosts"], check=True, timeout=120)
