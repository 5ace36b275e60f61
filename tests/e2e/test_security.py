"""What docs/security.md says of peers, tenants, listeners, local users and drives."""

import os
import stat

from conftest import setup_store
from test_bad_input import Relay

OTHER_KEY = "6ab1c5e0f4d7927b38a05c1f6e9d2b84730fd18ea96c5b42e7081d3fa4c69e57"


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_tenant_reads_and_changes_nothing_of_another(memkv, servers, tmp_path):
    config, key = setup_store(memkv, tmp_path, "d0.memkv:64MiB")
    config.write_text(config.read_text() + f"namespaces:\n  - name: second\n    auth_key: {OTHER_KEY}\n")
    server = servers("--config", config)
    assert memkv("put", "secret/prompt", "-", stdin=b"ours", server=server, key=key).code == 0
    for command in (["get"], ["exists"], ["stat"], ["rm"]):
        assert memkv(*command, "secret/prompt", server=server, key=OTHER_KEY).code == 1, command
    assert "secret" not in memkv("ls", server=server, key=OTHER_KEY).text
    assert memkv("put", "secret/prompt", "-", stdin=b"theirs", server=server, key=OTHER_KEY).code == 0
    status = memkv("status", "--json", server=server, key=OTHER_KEY)
    assert status.code == 0 and "secret" not in status.text and "d0.memkv" in status.text
    assert memkv("flush", "--yes", server=server, key=OTHER_KEY).code == 0
    assert memkv("get", "secret/prompt", server=server, key=key).out == b"ours"


def test_whoever_listens_reads_keys_and_blocks_but_not_the_credential(memkv, servers, tmp_path):
    config, key = setup_store(memkv, tmp_path, "d0.memkv:64MiB")
    server = servers("--config", config)
    relay = Relay(target=server.address)
    assert memkv("put", "secret/prompt", "-", "--transport", "tcp", stdin=b"what the user said", server=relay.address, key=key).code == 0
    relay.close()
    heard = b"".join(relay.sent)
    assert b"secret/prompt" in heard and b"what the user said" in heard
    credential = (tmp_path / "store.key").read_text().strip()
    assert credential.encode() not in heard and bytes.fromhex(credential) not in heard


def test_a_drive_shows_keys_and_blocks_also_of_removed_ones(memkv, servers, tmp_path):
    config, key = setup_store(memkv, tmp_path, "d0.memkv:64MiB")
    server = servers("--config", config)
    assert memkv("put", "secret/prompt", "-", stdin=b"what the user said", server=server, key=key).code == 0
    assert memkv("rm", "secret/prompt", server=server, key=key).code == 0
    assert server.stop() == 0
    drive = (tmp_path / "d0.memkv").read_bytes()
    assert b"secret/prompt" in drive and b"what the user said" in drive
    assert bytes.fromhex((tmp_path / "store.key").read_text().strip()) not in drive


def test_credential_drive_and_socket_belong_to_their_user_alone(memkv, servers, tmp_path):
    config, _ = setup_store(memkv, tmp_path, "d0.memkv:64MiB")
    assert mode_of(tmp_path / "store.key") == 0o600
    assert mode_of(tmp_path / "d0.memkv") == 0o600
    folder = tmp_path / "shm"
    servers("--config", config, "--shm-dir", folder)
    sockets = list(folder.glob("*.sock"))
    assert len(sockets) == 1 and mode_of(sockets[0]) == 0o600
