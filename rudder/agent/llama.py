"""llama.cpp: a GGUF model that continues texts. The only file that imports llama_cpp.

One engine belongs to one thread at a time: two threads on one model end the process.
"""

import ctypes
import functools
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rudder.agent.gguf_header import read_header
from rudder.agent.template import ChatTemplate, compile_template

Tokens = NDArray[np.int32]

# Loading turns the process's stderr off for a moment and collects llama.cpp's complaints.
_LOADING = threading.Lock()
_PAD = 256  # llama.cpp rounds contexts up to it
_PIECE_BYTES = 512
_ERROR_LEVEL = 4
# Flash attention, on one thread: on a model of 0.2M parameters a prompt of 260 tokens takes 3.3 ms
# in place of 8.0; on one of 60M a sixth less, but each token of an answer 7 ms in place of 4.
_TINY_BYTES = 16 << 20
# In vocabularies of so many tokens the likeliest is tried first: a grammar takes 0.12 us a token,
# and a look at one alone takes as long as some hundreds of them.
_MANY_TOKENS = 4096
# How often the watch looks at the clock, in seconds.
_LOOK_S = 0.05
_LIBC = ctypes.CDLL(None)


class Generated(NamedTuple):
    """text: the continuation.   tokens: of it; prompt_tokens: before it."""

    text: str
    tokens: int
    prompt_tokens: int


def _import() -> Any:
    """llama_cpp, told to be quiet and, should it abort, not to start a debugger."""
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    import llama_cpp

    return llama_cpp


def _load(path: Path, **settings: Any) -> Any:
    """A ``llama_cpp.Llama``. Raises ValueError with what llama.cpp had to say."""
    llama_cpp = _import()
    said: list[str] = []

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def collect(kind: int, text: bytes, data: ctypes.c_void_p) -> None:
        if kind == _ERROR_LEVEL:
            said.append(text.decode(errors="replace").strip())

    with _LOADING:
        llama_cpp.llama_log_set(collect, ctypes.c_void_p(0))
        try:
            return llama_cpp.Llama(str(path), verbose=False, **settings)
        except Exception as error:
            reason = next((line for line in said if "error" in line), "") or str(error)
            raise ValueError(_explain(path, reason)) from None
        finally:
            llama_cpp.llama_log_set(_silence(llama_cpp), ctypes.c_void_p(0))


@functools.cache
def _silence(llama_cpp: Any) -> Any:
    """A log that is free of Python: C's toupper, given the level, does nothing."""
    return llama_cpp.llama_log_callback(("toupper", _LIBC))


def _explain(path: Path, reason: str) -> str:
    reason = reason.rpartition("error loading model: ")[2]
    if "architecture" in reason:
        version = _import().__version__
        return f"{path}: {reason}: llama-cpp-python {version} is too old for it or never knew it"
    return f"{path}: llama.cpp cannot load it ({reason}): get the file again, or another model"


class _Watch:
    """Tells llama.cpp to stop at a time, even in the middle of a prompt (on the CPU).

    llama.cpp asks a C function at each node of its graph. Python as that function would need the
    interpreter's lock each time, and wait up to 5 ms for it while training runs; so it is C's
    strlen, over a text that is empty until it is time. A thread that looks at the clock now and
    then costs a call nothing, where a timer for each took 0.1 to 0.4 ms.
    """

    def __init__(self, llama_cpp: Any, context: Any) -> None:
        self._until, self._stop = math.inf, ctypes.create_string_buffer(2)
        self._callback = llama_cpp.ggml_abort_callback(("strlen", _LIBC))  # kept from collection
        llama_cpp.llama_set_abort_callback(context, self._callback, ctypes.addressof(self._stop))
        self.interrupted = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rudder-agent-watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(_LOOK_S):
            if self.interrupted or time.perf_counter() > self._until:
                self._stop[0] = b"x"

    def check(self) -> None:
        if self.interrupted:
            raise InterruptedError("the agent's model was told to stop")
        if time.perf_counter() > self._until:
            raise TimeoutError("the agent's model took too long")

    @contextmanager
    def until(self, moment: float) -> Iterator[None]:
        """What is done meanwhile ends soon after this moment of ``time.perf_counter()``."""
        self._until = moment
        try:
            self.check()
            yield
        except RuntimeError:  # llama_decode was stopped, or failed
            self.check()
            raise
        finally:
            self._until, self._stop[0] = math.inf, b"\0"

    def close(self) -> None:
        self._closing.set()
        self._thread.join()


class _Sampler:
    """The likeliest token that a grammar (GBNF, from ``root``) allows; of all where it is empty.

    many_tokens: from how many in the vocabulary on the likeliest one is tried first.
    """

    def __init__(self, llama_cpp: Any, llama: Any, grammar: str, many_tokens: int) -> None:
        api = self._api = llama_cpp
        self._context, self._rules = llama.ctx, None
        vocabulary = api.llama_model_get_vocab(llama.model)
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
        token = None if self._rules is None else self._likeliest()
        if token is None:
            return int(self._api.llama_sampler_sample(self._chain, self._context, -1))
        self._api.llama_sampler_accept(self._chain, token)
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
        self._api.llama_sampler_free(self._chain)


def _check_template(path: Path, text: bytes) -> None:
    try:
        compile_template(text.decode(errors="replace"))
    except ValueError as error:
        raise ValueError(
            f"{path}: its chat template does not parse ({error}): get another model"
        ) from None


class LlamaEngine:
    """A loaded model.

    context: at most so many tokens; fewer where the model was trained on fewer.
    threads: CPU threads.   gpu_layers: -1 for all.   many_tokens: of ``_Sampler``.
    Raises ValueError naming the file, what is wrong with it and what to do.
    """

    def __init__(
        self,
        path: Path,
        *,
        context: int,
        threads: int = 1,
        gpu_layers: int = 0,
        many_tokens: int = _MANY_TOKENS,
    ) -> None:
        fields = read_header(path)
        _check_template(path, fields.get("tokenizer.chat_template", b""))
        trained = fields.get("context_length")
        self.path, self._many_tokens = path, many_tokens
        self.context = min(context, trained) if isinstance(trained, int) else context
        llama = self._llama = _load(
            path,
            n_ctx=-(-self.context // _PAD) * _PAD,
            n_threads=threads,
            n_threads_batch=threads,
            n_gpu_layers=gpu_layers,
            flash_attn=path.stat().st_size < _TINY_BYTES,
            seed=1,
        )
        self._api = _import()
        self._vocab = self._api.llama_model_get_vocab(llama.model)
        self._memory = self._api.llama_get_memory(llama.ctx)
        # What the memory holds: the first ``_num`` of these.
        self._held, self._num = np.empty(llama.n_ctx(), np.int32), 0
        self._samplers: dict[str, _Sampler] = {}
        self._pieces: dict[int, bytes | None] = {}
        self._tokenized: tuple[str | None, list[int]] = None, []
        self._watch = _Watch(self._api, llama.ctx)
        self._begin = llama.token_bos()
        ends = (
            self._text(token).decode(errors="replace") if token >= 0 else ""
            for token in (self._begin, llama.token_eos())
        )
        self.template = ChatTemplate(llama.metadata.get("tokenizer.chat_template"), *ends)

    def generate(
        self,
        prompt: str,
        *,
        end: str,
        max_tokens: int,
        until: float,
        grammar: str = "",
        on_text: Callable[[str], None] = lambda text: None,
    ) -> Generated:
        """Continue a prompt, greedily, up to and including ``end``.

        Evaluates only what the prompt does not share with the texts of the call before.
        until: by ``time.perf_counter()``; raises TimeoutError soon after it.
        on_text: told of the continuation so far, after each token.
        """
        tokens = np.array(self.tokenize(prompt), np.int32)
        limit = min(max_tokens, self._llama.n_ctx() - len(tokens))
        sampler = self._sampler(grammar)
        raw, text, count = b"", "", 0
        with self._watch.until(until):
            unread = self._rewind(tokens)
            while count < limit and end not in text:
                self._read(unread)
                token = sampler.next()
                self._watch.check()
                piece = self._piece(token)
                if piece is None:
                    break
                raw, count = raw + piece, count + 1
                text = raw.decode(errors="ignore")
                on_text(text)
                unread = np.array([token], np.int32)
        return Generated(text, count, len(tokens))

    def interrupt(self) -> None:
        """Make ``generate``, in any thread and from now on, raise InterruptedError soon."""
        self._watch.interrupted = True

    def close(self) -> None:
        """Free the model."""
        self._watch.close()
        for sampler in self._samplers.values():
            sampler.close()
        self._llama.close()

    def _sampler(self, grammar: str) -> _Sampler:
        """From its beginning on."""
        if grammar not in self._samplers:
            many = self._many_tokens
            self._samplers[grammar] = _Sampler(self._api, self._llama, grammar, many)
        self._samplers[grammar].begin()
        return self._samplers[grammar]

    def _rewind(self, tokens: Tokens) -> Tokens:
        """Forget what llama.cpp holds beyond what it shares with tokens; returns the rest of them.

        Of tokens that are all held the last is read again, for what comes after it.
        """
        both = min(self._num, len(tokens) - 1)
        differ = np.flatnonzero(self._held[:both] != tokens[:both])
        self._num = int(differ[0]) if len(differ) else both
        if not self._api.llama_memory_seq_rm(self._memory, -1, self._num, -1):
            # Recurrent models cannot go back but to the beginning.
            self._api.llama_memory_clear(self._memory, True)
            self._num = 0
        return tokens[self._num :]

    def _read(self, tokens: Tokens) -> None:
        """Have llama.cpp read tokens after those it holds.

        ``Llama.eval`` writes batches token by token in Python, and a training thread waits for it.
        Raises RuntimeError where llama.cpp fails or is stopped.
        """
        for first in range(0, len(tokens), self._llama.n_batch):
            part = tokens[first : first + self._llama.n_batch]
            pointer = part.ctypes.data_as(ctypes.POINTER(self._api.llama_token))
            batch = self._api.llama_batch_get_one(pointer, len(part))
            if code := self._api.llama_decode(self._llama.ctx, batch):
                raise RuntimeError(f"llama_decode returned {code}")
            self._held[self._num : self._num + len(part)] = part
            self._num += len(part)

    def tokenize(self, text: str) -> list[int]:
        """A text's tokens, special ones among them."""
        # A prompt is counted first and continued then.
        if text != self._tokenized[0]:
            tokens: list[int] = self._llama.tokenize(text.encode(), add_bos=False, special=True)
            # Templates write the first token out themselves, or leave it to the tokenizer.
            if self._api.llama_vocab_get_add_bos(self._vocab) and tokens[:1] != [self._begin]:
                tokens.insert(0, self._begin)
            self._tokenized = text, tokens
        return self._tokenized[1]

    def _piece(self, token: int) -> bytes | None:
        """A token's bytes; None where it ends a text.

        Remembered: each call into C gives up the interpreter's lock, and waits for it where Python
        is busy in another thread.
        """
        if token not in self._pieces:
            ends = self._api.llama_vocab_is_eog(self._vocab, token)
            self._pieces[token] = None if ends else self._text(token)
        return self._pieces[token]

    def _text(self, token: int) -> bytes:
        """A token's bytes (``Llama.detokenize`` returns none for more than 31 of them)."""
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        size = self._api.llama_token_to_piece(self._vocab, token, buffer, _PIECE_BYTES, 0, True)
        return buffer.raw[: max(size, 0)]
