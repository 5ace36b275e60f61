"""What is wrong in a setting is told with its name, its value and what is expected; nothing is connected then."""

import math
from dataclasses import fields

import memkv
import numpy
import pytest
from memkv import _parameters as parameters
from memkv.lmcache import settings as lmcache
from memkv.lmcache.settings import Settings

NO_NUMBERS = [math.nan, math.inf, -math.inf, -1, "2", "2s", None, True, False, [1], 10**400, {}]


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0])
@pytest.mark.parametrize("check, expected", [(parameters.seconds, "a number of seconds above 0"), (parameters.megabytes, "a number of MB ")])
def test_amounts(check, expected, value):
    assert [check("n", right) for right in (1, 0.5, numpy.float32(2), numpy.int64(3))] == [1.0, 0.5, 2.0, 3.0]
    with pytest.raises(memkv.InvalidError, match=f"^lookup_timeout_s is .*: it must be {expected}") as told:
        check("lookup_timeout_s", value)
    assert isinstance(told.value, ValueError) and repr(value)[:50] in str(told.value) and len(str(told.value)) < 300


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_capacity_may_be_0(value):
    assert parameters.gigabytes("n", 0) == 0
    with pytest.raises(memkv.InvalidError, match="max_capacity_gb is .*: it must be a number of GB .* from 0 on"):
        parameters.gigabytes("max_capacity_gb", value)


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, 65, 1.5, 2.0])
def test_counts(value):
    assert [parameters.count("n", right, 1, 64) for right in (1, 64, numpy.uint32(7))] == [1, 64, 7]
    with pytest.raises(memkv.InvalidError, match="threads is .*: it must be a whole number from 1 to 64"):
        parameters.count("threads", value, 1, 64)


def test_texts_and_flags():
    assert parameters.optional_text("n", None) is parameters.optional_text("n", "") is None and parameters.text("n", "") == ""
    assert [parameters.flag("n", right) for right in (True, 0, 1)] == [True, False, True]
    for check in (parameters.text, parameters.some_text, parameters.optional_text, parameters.prefix):
        with pytest.raises(memkv.InvalidError, match="salt is 7: it must be text"):
            check("salt", 7)
    for check, value in ((parameters.text, None), (parameters.some_text, ""), (parameters.prefix, None)):
        with pytest.raises(memkv.InvalidError, match="salt is "):
            check("salt", value)
    for value in ("yes", None, 2, []):
        with pytest.raises(memkv.InvalidError, match="flag is .*: it must be true or false"):
            parameters.flag("flag", value)


def test_lists_of_names():
    for right in ("a, b", ["a", "b"], ("a", " b "), iter(["a", "b"])):
        assert parameters.names("servers", right) == ("a", "b")
    assert parameters.names("servers", None) == () and parameters.devices("rdma_devices", "mlx5_0,") == ("mlx5_0",)
    for wrong in (1, True, [1], ["a", None], b"ab"):
        with pytest.raises(memkv.InvalidError, match="servers is .*: it must be a list such as"):
            parameters.names("servers", wrong)


def test_a_prefix_leaves_room_for_the_engines_keys():
    assert len(parameters.prefix("prefix", "p" * 768)) == 768
    for value in ("p" * 769, "ü" * 385):
        with pytest.raises(memkv.InvalidError, match="prefix is 'p*ü*…: it must be at most 768 bytes, not 7"):
            parameters.prefix("prefix", value)


def test_an_unknown_name_is_told_with_the_nearest_one():
    with pytest.raises(memkv.InvalidError, match=r"^here: unknown parameter servrs \(is it servers\?\), x; known are salt, servers$"):
        parameters.checked({"servrs": "a", "x": 1, "salt": 5}, {"servers": parameters.names, "salt": parameters.text}, "here")


def test_a_credential_is_not_shown():
    with pytest.raises(memkv.InvalidError, match="auth_key is of type bytes: it must be text$"):
        memkv.connect("127.0.0.1:1", auth_key=b"4f1d")


@pytest.mark.parametrize(
    "wrong, expected",
    [
        ({"servers": 5}, "a list such as"),
        ({"get_timeout": "2s"}, "a number of seconds"),
        ({"put_timeout": math.nan}, "a number of seconds"),
        ({"get_timeout": 0}, "a number of seconds above 0"),
        ({"io_contexts": -1}, "a whole number from 0 to 64"),
        ({"io_contexts": True}, "a whole number"),
        ({"connections_per_worker": 1.5}, "a whole number from 0 to 16"),
        ({"client_name": 7}, "text"),
        ({"shm_dir": 7}, "text"),
        ({"config_file": 7}, "text"),
        ({"congestion": 7}, "text"),
        ({"rdma_devices": [0]}, "a list such as"),
        ({"verify": None}, "true or false"),
    ],
)
def test_connect_names_the_argument_that_is_wrong(wrong, expected):
    ((name, value),) = wrong.items()
    with pytest.raises(memkv.InvalidError) as told:
        memkv.connect(**{"servers": "127.0.0.1:1", **wrong})
    assert str(told.value).startswith(f"{name} is {value!r}: it must be {expected}")


def test_transports_are_told():
    for value in ("pigeon", None, [], 1):
        with pytest.raises(memkv.InvalidError, match="known are auto, tcp, shm, rdma"):
            memkv.connect("127.0.0.1:1", transport=value)


def test_log_levels_are_told():
    for value in ("loud", "INFO", "", [], 1):
        with pytest.raises(memkv.InvalidError, match="^log_level .*: known are debug, info, warn, error, off$"):
            memkv.connect("127.0.0.1:1", log_level=value)


@pytest.mark.parametrize("devices", ["mlx5_0,mlx5_1", ["mlx5_0", "mlx5_1"], "mlx5_0, mlx5_1,"])
def test_devices_as_text_are_a_comma_list(monkeypatch, devices):
    from memkv import _client

    seen = []

    def refuse(options, handle):
        seen.append(options._obj.rdma_devices[: options._obj.rdma_device_count])
        return 16

    monkeypatch.setattr(_client.lib, "memkv_connect", refuse)
    with pytest.raises(memkv.InvalidError):
        memkv.connect("127.0.0.1:1", rdma_devices=devices)
    assert seen == [[b"mlx5_0", b"mlx5_1"]]


def test_each_parameter_of_lmcache_has_a_check():
    assert set(lmcache._CHECKS) == {field.name for field in fields(Settings)}
    defaults = Settings()
    assert Settings.of({field.name: getattr(defaults, field.name) for field in fields(Settings)}) == defaults


@pytest.mark.parametrize(
    "wrong, expected",
    [
        ({"weights": 7}, "text"),
        ({"salt": None}, "text"),
        ({"prefix": 7}, "text"),
        ({"prefix": "p" * 1000}, "at most 768 bytes"),
        ({"servers": 7}, "a list such as"),
        ({"auth_key": 7}, "text"),
        ({"layout": ""}, "text that is not empty"),
        ({"n_read_threads": "2"}, "a whole number from 1 to 64"),
        ({"n_write_threads": 0}, "a whole number from 1 to 64"),
        ({"lookup_timeout_s": True}, "a number of seconds above 0"),
        ({"load_timeout_s": math.nan}, "a number of seconds above 0"),
        ({"store_timeout_s": math.inf}, "a number of seconds above 0"),
        ({"max_store_backlog_mb": math.inf}, "a number of MB"),
        ({"max_capacity_gb": -1}, "a number of GB .* from 0 on"),
        ({"max_capacity_gb": math.nan}, "a number of GB"),
        ({"max_capacity_gb": False}, "a number of GB"),
    ],
)
def test_lmcaches_parameters(wrong, expected):
    (name,) = wrong
    with pytest.raises(memkv.InvalidError, match=f"^adapter_params: {name} is .*: it must be {expected}"):
        Settings.of(wrong)


def test_lmcaches_names():
    with pytest.raises(memkv.InvalidError, match=r"unknown parameter lookup_timeout \(is it lookup_timeout_s\?\); known are auth_key, "):
        Settings.of({"lookup_timeout": 1})
