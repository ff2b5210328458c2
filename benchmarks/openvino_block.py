"""The layer of `compiler_block` in OpenVINO: for each line of input, the seconds of one call.

Runs in a process of its own, so that an interpreter with OpenVINO needs nothing of Banyan. The
layer is converted in float32 and computed in bfloat16, which is how OpenVINO wants to be asked.
"""

import argparse
import sys

import openvino
import torch

from benchmarks.qwen3_block import TOKENS, WIDTH, block, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    hidden = torch.randn(1, TOKENS, WIDTH)
    with torch.no_grad():
        converted = openvino.convert_model(block().float(), example_input=hidden)
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": options.threads,
    }
    request = openvino.Core().compile_model(converted, "CPU", settings).create_infer_request()
    rows = hidden.numpy()
    request.infer({0: rows}, share_inputs=True)
    for _ in sys.stdin:
        print(seconds(lambda: request.infer({0: rows}, share_inputs=True)), flush=True)


if __name__ == "__main__":
    main()
