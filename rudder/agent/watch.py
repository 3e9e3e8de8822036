"""Watch: stops llama.cpp at a time, also in the middle of a prompt (on the CPU)."""

import ctypes
import math
import threading
import time
from typing import Any

# How often it looks at the clock, in seconds.
_LOOK_S = 0.05
_LIBC = ctypes.CDLL(None)


class Watch:
    """Tells llama.cpp to stop at a time, even in the middle of a prompt.

    llama.cpp asks a C function at each node of its graph. Python as that function would need the
    interpreter's lock each time, and wait up to 5 ms for it while training runs; so it is C's
    strlen, over a text that is empty until it is time. A thread that looks at the clock now and
    then costs a call nothing, where a timer for each took 0.1 to 0.4 ms.
    """

    def __init__(self, llama_cpp: Any, context: Any) -> None:
        self.until, self.stop = math.inf, ctypes.create_string_buffer(2)
        self._callback = llama_cpp.ggml_abort_callback(("strlen", _LIBC))  # kept from collection
        llama_cpp.llama_set_abort_callback(context, self._callback, ctypes.addressof(self.stop))
        self.interrupted = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rudder-agent-watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(_LOOK_S):
            if self.interrupted or time.perf_counter() > self.until:
                self.stop[0] = b"x"

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join()
