"""llama.cpp's own HTTP server in the environment that has xllamacpp, which brings it as a wheel.

Not imported by tests: ``python tests/llama_cpp_server.py MODEL.gguf PORT`` serves until killed.
"""

from __future__ import annotations

import sys
import time


def main(model: str, port: int) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.port = port
    params.n_ctx = 4096
    params.n_parallel = 2
    params.cpuparams.n_threads = 1
    server = xllamacpp.Server(params)  # listens on loopback for as long as it lives
    while server:
        time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
