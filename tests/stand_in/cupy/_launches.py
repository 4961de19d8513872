"""Where the kernels package meets the device: launches, and the libraries that CuPy has loaded."""

from tests.stand_in_gpu import DeviceArray, done

from . import _cublas, _faults


def install():
    """Let tinygrad_llm.kernels run on the stand-in's arrays."""
    from tinygrad_llm.kernels import _runtime
    from tinygrad_llm.kernels.products import cublas as calls

    def launch(kernel, grid, args, num_warps, num_stages, constants):
        _faults.before_launch()
        options = {name: value for name, value in constants.items() if name in kernel.arg_names}
        given = (kernel, grid, tuple(_on_host(a) for a in args), options)
        done(_runtime._interpret, given, {}, _runtime._interpret(*given))

    _runtime._launch_on_gpu = launch
    calls._loaded = lambda op, libraries: _cublas.LIBRARY


def _on_host(argument):
    """The argument with its array in host memory; a tensor descriptor holds an array of its own."""
    inner = getattr(argument, "array", None)
    if isinstance(inner, DeviceArray):
        return type(argument)(inner.host, argument.block_shape)
    return argument.host if isinstance(argument, DeviceArray) else argument
