"""A real vLLM engine on the CPU with LMCacheMPConnector, in a process of its own: `python lmcache_engine.py MODEL PORT`
(PORT of `lmcache server`; 0 = no LMCache), then a line of JSON a call: a prompt's seed, its tokens, how many answers."""

import json
import os
import random
import sys
import time

from tiny_llama import make_amx_ready

BLOCK_TOKENS = 32


def step_over_cffi():
    """vLLM's start looks into all loaded modules. LMCache loads cffi, whose modules have a __dict__ that is not a dict."""
    from collections.abc import Mapping

    from vllm.triton_utils import dispatcher

    dispatcher.vars = lambda value: found if isinstance(found := getattr(value, "__dict__", None), Mapping) else {}


def start(model, port):
    from vllm import LLM

    make_amx_ready()
    connector = None
    if port:
        extra = {"lmcache.mp.host": "tcp://localhost", "lmcache.mp.port": port, "lmcache.mp.mq_timeout": 20}
        connector = {"kv_connector": "LMCacheMPConnector", "kv_role": "kv_both", "kv_connector_extra_config": extra}
        step_over_cffi()
    return LLM(
        model, skip_tokenizer_init=True, enforce_eager=True, block_size=BLOCK_TOKENS, max_model_len=2048, max_num_seqs=4, seed=1,
        kv_transfer_config=connector,
    )  # fmt: skip


def generate(llm, seed, tokens):
    """A prompt of random tokens; what it was answered, how many of its tokens came from a cache, and how long it took."""
    from vllm import SamplingParams

    prompt = {"prompt_token_ids": random.Random(seed).choices(range(1, 512), k=tokens)}
    begun = time.monotonic()
    (output,) = llm.generate([prompt], SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, detokenize=False), use_tqdm=False)
    answer = {"tokens": list(output.outputs[0].token_ids), "cached": output.num_cached_tokens, "seconds": time.monotonic() - begun}
    forget(llm)
    return answer


def forget(llm):
    """Empties the engine's own cache, once LMCache has taken what it stores: what is found next is LMCache's."""
    until = time.monotonic() + 20
    while not llm.reset_prefix_cache():
        assert time.monotonic() < until, "LMCache takes no blocks"
        llm.llm_engine.engine_core.engine_core.step_fn()


def serve(model, port):
    """Answers go to what was stdout; all that vLLM prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    llm = start(model, port)
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(generate(llm, **json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
