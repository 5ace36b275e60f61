"""What LMCache's adapters say of the names that they make: LMCache tells them no types."""

import logging

import pytest
from memkv.lmcache import notes
from memkv.lmcache.namespace import Namespace
from memkv.lmcache.settings import Settings


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr(notes, "_said", {})
    caplog.set_level(logging.INFO, "memkv.lmcache")
    return caplog


def test_a_missing_kv_dtype_is_told_with_the_prefix(said):
    namespace = Namespace(Settings.of({"weights": "mine", "prefix": "team/"}))
    assert namespace.names() == {}
    prefix = namespace.prefix("org/model", 10).decode()
    assert prefix.startswith("team/lmcache/")
    assert namespace.names() == {
        "org/model": {"prefix": prefix, "weights": "named:mine:", "dtype": "not given", "kv_dtype": "not given", "layout": "not given"}
    }
    (line,) = said.records
    assert line.levelname == "WARNING" and f"keys of model 'org/model' begin with {prefix!r}" in line.getMessage()
    assert "kv_dtype not given" in line.getMessage() and 'adapter_params "kv_dtype"' in line.getMessage()
    namespace.prefix("org/model", 10)
    assert len(said.records) == 1, "once a model"


def test_a_named_kv_dtype_is_another_prefix_and_no_warning(said):
    plain = Namespace(Settings.of({"weights": "mine"})).prefix("m", 10)
    namespace = Namespace(Settings.of({"weights": "mine", "kv_dtype": "fp8"}))
    assert namespace.prefix("m", 10) != plain and namespace.names()["m"]["kv_dtype"] == "fp8"
    assert [line.levelname for line in said.records] == ["WARNING", "INFO"]
