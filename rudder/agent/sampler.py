"""Sampler: the likeliest token that a grammar allows."""

import ctypes
import math
from typing import Any

import numpy as np

# In vocabularies of so many tokens the likeliest is tried first: a grammar takes 0.12 us a token,
# and a look at one alone takes as long as some hundreds of them.
MANY_TOKENS = 4096


class Sampler:
    """Greedy, under a grammar (GBNF, from ``root``) or under none where it is empty.

    many_tokens: from how many in the vocabulary on the likeliest one is tried first.
    """

    def __init__(
        self, llama_cpp: Any, vocabulary: Any, context: Any, grammar: str, many_tokens: int
    ) -> None:
        api = self._api = llama_cpp
        self._context, self._rules = context, None
        self._num_tokens = api.llama_vocab_n_tokens(vocabulary)
        self._chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        if grammar:
            rules = api.llama_sampler_init_grammar(vocabulary, grammar.encode(), b"root")
            api.llama_sampler_chain_add(self._chain, rules)
            self._rules = rules if self._num_tokens >= many_tokens else None
        api.llama_sampler_chain_add(self._chain, api.llama_sampler_init_greedy())
        self._one = (api.llama_token_data * 1)()

    def begin(self) -> None:
        """The next token is the grammar's first."""
        self._api.llama_sampler_reset(self._chain)

    def next(self) -> int:
        """The token after what was read last; it counts as taken."""
        if self._rules is not None:
            likeliest = self._likeliest()
            if likeliest is not None:
                self._api.llama_sampler_accept(self._chain, likeliest)
                return likeliest
        token: int = self._api.llama_sampler_sample(self._chain, self._context, -1)
        return token

    def _likeliest(self) -> int | None:
        """Of all tokens, if the grammar allows it."""
        pointer = self._api.llama_get_logits_ith(self._context, -1)
        logits = np.ctypeslib.as_array(pointer, (self._num_tokens,))
        token = int(logits.argmax())
        self._one[0] = self._api.llama_token_data(token, float(logits[token]), 0.0)
        array = self._api.llama_token_data_array(self._one, 1, -1, False)
        self._api.llama_sampler_apply(self._rules, ctypes.byref(array))
        return None if math.isinf(self._one[0].logit) else token

    def close(self) -> None:
        """Free it."""
        self._api.llama_sampler_free(self._chain)
