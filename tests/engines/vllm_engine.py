"""A real vLLM engine on the CPU, in a process of its own: `python vllm_engine.py CONFIG`, then a line of JSON a call.

All of it is upstream's but the copies between "GPU" and primary tier, for which upstream has CUDA only (StandInSpec).
The scenarios are methods of Engine; the tests in test_vllm.py call them by name."""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter

from processes import freeze
from tiny_llama import make_amx_ready, write_model

BLOCK_TOKENS = 32


def define_spec():
    """Upstream's tiering, with a worker that copies by the CPU."""
    import torch
    from vllm.v1.kv_offload.base import OffloadingWorker, TransferResult
    from vllm.v1.kv_offload.cpu.shared_offload_region import SharedOffloadRegion
    from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec

    class Copies(OffloadingWorker):
        def __init__(self, spec, kv_caches):
            self.region = SharedOffloadRegion(spec._engine_id, spec.num_chunks, 0, spec.kv_bytes_per_chunk, spec.cpu_page_size_per_worker)
            self.caches = [cache.tensor.view(torch.int8).flatten(1) for cache in kv_caches.tensors]
            self.rows = [self.region.create_next_worker_view(cache.page_size_bytes) for cache in kv_caches.tensors]
            self.done = []

        def submit_store(self, job_id, src_spec, dst_spec):
            for cache, rows in zip(self.caches, self.rows):
                rows[dst_spec.block_ids] = cache[src_spec.block_ids][:, : rows.shape[1]]
            self.done.append(TransferResult(job_id, True, 1, 0.0))
            return True

        def submit_load(self, job_id, src_spec, dst_spec, expedited=False):
            for cache, rows in zip(self.caches, self.rows):
                cache[dst_spec.block_ids, : rows.shape[1]] = rows[src_spec.block_ids]
            self.done.append(TransferResult(job_id, True, 1, 0.0))
            return True

        def get_finished(self):
            done, self.done = self.done, []
            return done

        def wait(self, job_ids):
            pass

        def shutdown(self):
            self.rows.clear()
            self.region.cleanup()

    class StandInSpec(TieringOffloadingSpec):
        def get_worker(self, kv_caches):
            if not self._worker:
                self._worker = Copies(self, kv_caches)
            return self._worker

    return StandInSpec


class Engine:
    """An LLM and its tier. `config`: model (folder, made if it is not there), weights_seed, tier (its parameters; None = no
    offloading), engine_id."""

    def __init__(self, config):
        from vllm import LLM

        if not os.path.exists(config["model"]):
            write_model(config["model"], config["weights_seed"])
        make_amx_ready()
        connector = None
        if config["tier"]:
            extra = {"spec_name": "StandInSpec", "spec_module_path": "vllm_engine", "cpu_bytes_to_use": 16 << 20, "secondary_tiers": [config["tier"]]}
            connector = {"kv_connector": "OffloadingConnector", "kv_role": "kv_both", "engine_id": config["engine_id"], "kv_connector_extra_config": extra}
        self.llm = LLM(
            config["model"], skip_tokenizer_init=True, enforce_eager=True, block_size=BLOCK_TOKENS, max_model_len=2048, max_num_seqs=8,
            seed=1, kv_transfer_config=connector, disable_log_stats=False, prefix_caching_hash_algo="sha256_cbor",
        )  # fmt: skip
        self.core = self.llm.llm_engine.engine_core.engine_core
        if connector:
            self.manager = self.core.scheduler.connector.connector_scheduler.manager
            self.tier = self.manager.secondary_tiers[0]
            self.watch()

    # -- What a user does ------------------------------------------------------------------------------------------

    def generate(self, seed=0, tokens=900, count=1, salt=None):
        """Prompts of random tokens drawn from `seed`, `seed` + 1, …: what each was answered."""
        from vllm import SamplingParams

        prompts = [{"prompt_token_ids": random.Random(s).choices(range(1, 512), k=tokens)} for s in range(seed, seed + count)]
        for prompt in prompts:
            if salt:
                prompt["cache_salt"] = salt
        begun = time.monotonic()
        outputs = self.llm.generate(prompts, SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, detokenize=False), use_tqdm=False)
        seconds = time.monotonic() - begun
        self.settle()
        return {"tokens": [list(o.outputs[0].token_ids) for o in outputs], "cached": [o.num_cached_tokens for o in outputs], "seconds": seconds}

    def settle(self):
        """Steps until stores are done or given up."""
        until = time.monotonic() + 60
        while self.core.scheduler.has_requests() or self.core.scheduler.connector and self.core.scheduler.connector.has_pending_push_work():
            assert time.monotonic() < until, "stores do not end"
            self.core.step_fn()

    def forget(self):
        """Empties the GPU's cache and the primary tier: what is found next comes from MemKV."""
        assert self.llm.reset_prefix_cache(reset_connector=True)

    def metrics(self):
        """What the tier's series have grown by since the start: {name without "vllm:kv_offload_tiering_": value}."""
        return self.totals

    def series(self):
        """Names of the series that the engine shows to Prometheus."""
        return sorted({metric.name for metric in self.llm.get_metrics()})

    # -- What is measured and what is broken -----------------------------------------------------------------------

    def watch(self):
        """Notes how long each lookup said "ask again" and each load took, in seconds, as the engine sees it."""
        tier, self.spans, self.before_load, self.totals = self.tier, {"lookup": 0.0, "load": 0.0, "loads": 0}, None, Counter()
        lookup, submit, finished, asked, begun = tier.lookup, tier.submit_load, tier.get_finished_jobs, {}, {}

        def note(kind, since):
            self.spans[kind] = max(self.spans[kind], time.monotonic() - since)

        def watched_lookup(key, context):
            result, place = lookup(key, context), (key, context.req_id)
            if result.name == "RETRY":
                asked.setdefault(place, time.monotonic())
            elif place in asked:
                note("lookup", asked.pop(place))
            return result

        def watched_load(job):
            hurt, self.before_load = self.before_load, None
            if hurt:
                hurt(job)
            begun[job.job_id] = time.monotonic()
            self.spans["loads"] += 1
            submit(job)

        def watched_finished():
            results = list(finished())
            for result in results:
                if result.job_id in begun:
                    note("load", begun.pop(result.job_id))
            return results

        get_stats, label = self.manager.get_stats, (f"1:{tier.tier_type}",)

        def watched_stats():
            stats = get_stats()
            for name, values in stats.data["data"].items() if stats else ():
                if stats.data["types"][name] == "counter":
                    self.totals[name.removeprefix("vllm:kv_offload_tiering_")] += values.get(label, 0)
            return stats

        tier.lookup, tier.submit_load, tier.get_finished_jobs = watched_lookup, watched_load, watched_finished
        self.manager.get_stats = watched_stats

    def measured(self):
        """What watch() noted since the last call."""
        spans, self.spans = self.spans, {"lookup": 0.0, "load": 0.0, "loads": 0}
        return spans

    def before_next_load(self, remove_from=None, frozen=None, killed=None):
        """Between a lookup that hit and its load: takes the blocks from that one on out of the store, or hurts a process."""

        def hurt(job):
            for key in list(job.keys)[remove_from:] if remove_from is not None else ():
                assert self.tier._stores.client.remove(self.tier._prefix + key)
            if frozen:
                freeze(frozen)
            if killed:
                os.kill(killed, signal.SIGKILL)

        self.before_load = hurt

    def fill_primary(self, byte):
        """As if the engine had reused all of the primary tier's memory."""
        memory = self.manager.primary_tier.get_kv_memoryview()
        memory.cast("B")[:] = bytes([byte]) * memory.nbytes

    def primary_holds_only(self, byte):
        memory = self.manager.primary_tier.get_kv_memoryview()
        return bytes(memory) == bytes([byte]) * memory.nbytes

    def key_prefix(self):
        return self.tier._prefix.decode()

    def reopen(self, **config):
        """Another engine in this process, in place of this one."""
        from vllm.distributed import cleanup_dist_env_and_memory

        self.core.shutdown()
        del self.llm, self.core, self.manager, self.tier
        cleanup_dist_env_and_memory()
        self.__init__(config)


def serve(config):
    """Calls and answers on what were stdin and stdout; all that vLLM prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engine = Engine(config)
    print(json.dumps({"value": "ready"}), file=answers, flush=True)
    for line in sys.stdin:
        call = json.loads(line)
        try:
            answer = {"value": getattr(engine, call["name"])(**call["arguments"])}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def __getattr__(name):
    if name == "StandInSpec":
        return define_spec()
    raise AttributeError(name)


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
