"""The same file under the name libplugin_OBJ.so: S3's parameters, and nothing of S3's secrets goes anywhere."""

import pytest

S3_KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY", "AWS_SESSION_TOKEN": "FwoGZXIvYXdzEXAMPLETOKEN"}


def s3_parameters(place, **more):
    """What a consumer of OBJ passes."""
    parameters = {"bucket": "kv-bucket", "endpoint_override": place.server.address, "region": "us-east-1", "scheme": "http", "use_virtual_addressing": "false", "access_key": "AKIAEXAMPLE"}
    if place.key:
        with open(place.key.removeprefix("@")) as file:
            parameters["secret_key"] = file.read().strip()
    return {**parameters, **more}


def stores(stage, parameters):
    """Through OBJ, and the same object through MEMKV under bucket/key; returns the effective parameters."""
    ours = stage.agent(prefix="")
    theirs, stage.parameters, stage.prefix = stage.parameters, {}, None
    agent = stage.agent(backend="OBJ", **parameters)
    memory = agent.memory(65536, fill=6)
    assert agent.query(["model/0/hash.bin"]) in ([False], [True])
    agent.write(memory, "model/0/hash.bin")
    assert agent.query(["model/0/hash.bin", "model/0/other.bin"]) == [True, False]
    back = ours.memory(65536)
    ours.read(back, f"{parameters['bucket']}/model/0/hash.bin")
    assert (back.bytes == 6).all() and theirs
    back = agent.memory(65536)
    agent.read(back, "model/0/hash.bin")
    assert (back.bytes == 6).all()
    return agent.nixl.get_backend_params("OBJ")


@pytest.mark.parametrize("form", ["{}", "http://{}", "https://{}/", "http://{},"])
def test_bucket_endpoint_and_secret(play, place, form):
    parameters = s3_parameters(place, endpoint_override=form.format(place.server.address))
    played = play(stores, place, parameters=parameters, env=S3_KEYS)
    ignored = [line for line in played.err.splitlines() if "ignored" in line]
    assert len(ignored) == 1 and all(name in ignored[0] for name in ("region", "scheme", "use_virtual_addressing", "access_key")), played.err
    assert played.value["prefix"] == "kv-bucket/" and played.value["write_mode"] == "replace"
    secrets = [*S3_KEYS.values(), parameters["access_key"], parameters.get("secret_key", "-" * 9)]
    seen = played.err + str(played.value) + place.server.log()
    assert not [secret for secret in secrets if secret in seen]


def test_all_wheels_take_the_alias(play, place, wheel):
    play(stores, place, wheel, parameters=s3_parameters(place))


def environment_only(stage):
    """Bucket and endpoint from S3's environment; keys of S3 in it are not taken for a credential."""
    stage.parameters, stage.prefix = {}, None
    agent = stage.agent(backend="OBJ")
    agent.write(agent.memory(4096, fill=1), "by-environment")
    return agent.nixl.get_backend_params("OBJ")


def test_environment_of_s3(play, own_place):
    env = {"AWS_ENDPOINT_OVERRIDE": own_place.server.address, "AWS_DEFAULT_BUCKET": "env-bucket", **S3_KEYS}
    value = play(environment_only, env=env).value
    assert value["prefix"] == "env-bucket/" and value["auth_key"] == ""


def test_a_key_pair_of_s3_in_the_environment_is_never_sent(play):
    """A listener in the place of a server sees no byte of it."""
    import socket
    import threading

    heard = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def listen():
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            peer.settimeout(0.3)
            try:
                while data := peer.recv(65536):
                    heard.append(data)
            except OSError:
                pass
            peer.close()

    thread = threading.Thread(target=listen)
    thread.start()
    address = "127.0.0.1:%d" % listener.getsockname()[1]
    played = play(into_the_void, env={"AWS_ENDPOINT_OVERRIDE": address, "AWS_DEFAULT_BUCKET": "b", **S3_KEYS})
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    told = b"".join(heard)
    assert told, "nobody called"
    assert not [name for name, secret in S3_KEYS.items() if secret.encode() in told or secret in played.err]


def into_the_void(stage):
    from agent import outcome

    stage.parameters, stage.prefix = {"timeout_ms": 700}, None
    agent = stage.agent(backend="OBJ")
    assert outcome(agent.write, agent.memory(4096), "key") != "DONE"


def whole_objects(stage, parameters):
    """Under this name a write is a whole object: a shorter one leaves nothing of the longer one."""
    from agent import outcome

    stage.parameters, stage.prefix = {}, None
    agent = stage.agent(backend="OBJ", **parameters)
    memory, back = agent.memory(65536, fill=1), agent.memory(65536)
    agent.register("whole", 65536)
    agent.write(memory, "whole")
    agent.write(memory, "whole", 4096)
    assert outcome(agent.read, back, "whole", 4096) == "DONE"
    assert outcome(agent.read, back, "whole", 4097) == "nixlNotFoundError"


def test_a_write_is_a_whole_object(play, place):
    play(whole_objects, place, parameters=s3_parameters(place))


def as_vllm_does(stage, parameters):
    """The start-up probe and the jobs of vLLM's object tier: decimal parameters, keys with slashes, devices counted up."""
    import threading

    stage.parameters, stage.prefix = {}, None
    agent = stage.agent(backend="OBJ", num_threads=4, **parameters)
    assert agent.nixl.query_memory([(0, 1, 0, "probe-of-a-key-that-is-not-there")], "OBJ", "OBJ") == [None]
    memory = agent.memory(8 * 65536, fill=2)
    answers = []
    for job in range(20):
        keys = [f"p/0/{job}-{i}.bin" for i in range(8)]
        asker = threading.Thread(target=lambda: answers.append(agent.query(keys)))
        asker.start()
        agent.run("WRITE", [(memory, i * 65536, key, 0, 65536) for i, key in enumerate(keys)])
        asker.join()
        for key in keys:
            agent.deregister(key)
        assert agent.query(keys) == [True] * 8
    assert len(answers) == 20


def test_jobs_of_an_object_tier(play, place):
    play(as_vllm_does, place, parameters=s3_parameters(place))
